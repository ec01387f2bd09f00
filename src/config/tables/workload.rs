//! `[crio.runtime.workloads.NAME]`: resources for pods that carry an annotation.

use crate::config::quantity::CpuSet;
use crate::config::rules;
use crate::config::schema::table;

table! {
    /// Pods that an annotation selects, and what their containers may use.
    Workload {
        /// Annotation that puts a pod into the workload, whatever its value; it must be set. Of two
        /// workloads with the same one, the first by name counts.
        activation_annotation: String = "";

        /// Beginning of the annotations of a pod that set the resources of one of its containers:
        /// `PREFIX/CONTAINER`, with a value such as `{"cpushares": 20, "cpuset": "0-1"}`. The
        /// container `POD` is the pause process of a pod that has one.
        annotation_prefix: String = "";

        /// What pods of the workload may ask for beside that which allowed_annotations of their
        /// handler has.
        allowed_annotations: Vec<String> = [];

        nested {
            /// `[crio.runtime.workloads.NAME.resources]`.
            resources: Resources,
        }
    }
}

table! {
    /// What a container of a workload gets when its annotation does not say, in place of what the
    /// kubelet asks for.
    Resources {
        /// CPU shares; 0 sets none.
        cpushares: u64 = 0_u64 => rules::cpu_shares;

        /// CPU time per period in microseconds, -1 for no limit; 0 sets none.
        cpuquota: i64 = 0 => rules::cpu_quota;

        /// CPU period in microseconds; 0 sets none.
        cpuperiod: u64 = 0_u64 => rules::cpu_period;

        /// CPUs. Empty sets none.
        cpuset: Option<CpuSet> = None;

        /// CPU limit in thousandths of a CPU, which gives the quota in place of cpuquota; 0 sets none.
        cpulimit: i64 = 0 => rules::cpu_limit;
    }
}

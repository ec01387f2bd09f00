//! `[crio.runtime.workloads.NAME]`: resources for pods that carry an annotation.

use crate::config::quantity::CpuSet;
use crate::config::schema::table;

const NO_WORKLOADS: &str = "this version has no workloads";

table! {
    /// Pods that an annotation selects, and what their containers may use.
    Workload {
        /// Annotation that puts a pod into the workload; it must be set.
        activation_annotation: String = "", status = Accepted(NO_WORKLOADS);

        /// Beginning of the annotations that set a resource of one container:
        /// `PREFIX.RESOURCE/CONTAINER`.
        annotation_prefix: String = "", status = Accepted(NO_WORKLOADS);

        /// Experimental annotations that pods of the workload may use.
        allowed_annotations: Vec<String> = [], status = Accepted(NO_WORKLOADS);

        nested {
            /// `[crio.runtime.workloads.NAME.resources]`.
            resources: Resources,
        }
    }
}

table! {
    /// What a container of a workload gets when its annotation does not say.
    Resources {
        /// CPU shares; 0 sets none.
        cpushares: u64 = 0_u64, status = Accepted(NO_WORKLOADS);

        /// CPU time per period in microseconds; 0 sets none.
        cpuquota: i64 = 0, status = Accepted(NO_WORKLOADS);

        /// CPU period in microseconds; 0 sets none.
        cpuperiod: u64 = 0_u64, status = Accepted(NO_WORKLOADS);

        /// CPUs. Empty sets none.
        cpuset: Option<CpuSet> = None, status = Accepted(NO_WORKLOADS);

        /// CPU limit in thousandths of a CPU, which gives the quota; 0 sets none.
        cpulimit: i64 = 0, status = Accepted(NO_WORKLOADS);
    }
}

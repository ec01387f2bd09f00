//! `[crio.metrics]`, `[crio.tracing]` and `[crio.stats]`: what the daemon tells about itself.

use std::path::PathBuf;

use crate::config::rules;
use crate::config::schema::table;

const NO_METRICS: &str = "this version serves no metrics";
const NO_TRACING: &str = "this version exports no traces";

table! {
    /// The Prometheus endpoint.
    Metrics {
        /// Serve metrics.
        enable_metrics: bool = false,
            flag = "enable-metrics", env = "CONTAINER_ENABLE_METRICS", status = Accepted(NO_METRICS);

        /// Metrics that are served, with or without `container_runtime_crio_` in front.
        metrics_collectors: Vec<String> = [
            "image_pulls_layer_size",
            "containers_events_dropped_total",
            "containers_oom_total",
            "processes_defunct",
            "operations_total",
            "operations_latency_seconds",
            "operations_latency_seconds_total",
            "operations_errors_total",
            "image_pulls_bytes_total",
            "image_pulls_skipped_bytes_total",
            "image_pulls_failure_total",
            "image_pulls_success_total",
            "image_layer_reuse_total",
            "containers_oom_count_total",
            "containers_seccomp_notifier_count_total",
            "resources_stalled_at_stage",
            "containers_stopped_monitor_count",
            "default_runtime",
        ], flag = "metrics-collectors", env = "CONTAINER_METRICS_COLLECTORS",
            status = Accepted(NO_METRICS);

        /// Address of the endpoint.
        metrics_host: String = "127.0.0.1" => rules::host,
            flag = "metrics-host", env = "CONTAINER_METRICS_HOST", status = Accepted(NO_METRICS);

        /// Port of the endpoint.
        metrics_port: u16 = 9090_u16,
            flag = "metrics-port", env = "CONTAINER_METRICS_PORT", status = Accepted(NO_METRICS);

        /// Unix socket to serve metrics on as well.
        metrics_socket: Option<PathBuf> = None => rules::optional_socket,
            flag = "metrics-socket", env = "CONTAINER_METRICS_SOCKET",
            status = Accepted(NO_METRICS);

        /// Certificate of the endpoint in PEM; a changed file is picked up.
        metrics_cert: Option<PathBuf> = None,
            flag = "metrics-cert", env = "CONTAINER_METRICS_CERT", status = Accepted(NO_METRICS);

        /// Key of that certificate in PEM; a changed file is picked up.
        metrics_key: Option<PathBuf> = None,
            flag = "metrics-key", env = "CONTAINER_METRICS_KEY", status = Accepted(NO_METRICS);
    }
}

table! {
    /// OpenTelemetry traces.
    Tracing {
        /// Export traces.
        enable_tracing: bool = false,
            flag = "enable-tracing", env = "CONTAINER_ENABLE_TRACING",
            status = Accepted(NO_TRACING);

        /// Address of the collector (OTLP over gRPC).
        tracing_endpoint: String = "127.0.0.1:4317" => rules::endpoint,
            flag = "tracing-endpoint", env = "CONTAINER_TRACING_ENDPOINT",
            status = Accepted(NO_TRACING);

        /// How many of a million calls are traced; those that the kubelet traces always are.
        tracing_sampling_rate_per_million: u32 = 0_u32 => rules::per_million,
            flag = "tracing-sampling-rate-per-million",
            env = "CONTAINER_TRACING_SAMPLING_RATE_PER_MILLION", status = Accepted(NO_TRACING);
    }
}

table! {
    /// Statistics of pods and containers.
    Stats {
        /// The old name of `collection_period`, which wins over it.
        stats_collection_period: i64 = 0 => rules::period,
            flag = "stats-collection-period", env = "CONTAINER_STATS_COLLECTION_PERIOD";

        /// Seconds for which a sample of a pod or container is answered again; 0 takes one for each
        /// call. Metrics are always measured anew.
        collection_period: i64 = 0 => rules::period,
            flag = "collection-period", env = "COLLECTION_PERIOD";

        /// Groups of metrics that ListPodSandboxMetrics tells: `cpu`, `disk`, `diskIO`, `hugetlb`,
        /// `memory`, `network`, `oom`, `pressure`, `process`, `spec` or `all`.
        included_pod_metrics: Vec<String> = [] => rules::pod_metrics,
            flag = "included-pod-metrics", env = "CONTAINER_INCLUDED_POD_METRCIS";
    }
}

//! `[crio.api]`: the socket and the streaming server.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::choice::TlsVersion;
use crate::config::quantity::TextPort;
use crate::config::rules;
use crate::config::schema::table;

table! {
    /// The socket and the streaming server.
    Api {
        /// Unix socket that the daemon answers on. A kubelet that is given exactly
        /// `/var/run/crio/crio.sock` takes container statistics from cAdvisor instead of the CRI.
        listen: PathBuf = "/var/run/crio/crio.sock" => rules::socket,
            flag = "listen", env = "CONTAINER_LISTEN";

        /// Address that exec, attach and port-forward sessions are served on.
        stream_address: String = "127.0.0.1" => rules::host,
            flag = "stream-address", env = "CONTAINER_STREAM_ADDRESS";

        /// Port of the streaming server; `"0"` takes any free one.
        stream_port: TextPort = TextPort(0),
            flag = "stream-port", env = "CONTAINER_STREAM_PORT";

        /// Serve streaming sessions over TLS.
        stream_enable_tls: bool = false,
            flag = "stream-enable-tls", env = "CONTAINER_ENABLE_TLS";

        /// Certificate of the streaming server in PEM; a changed file is picked up.
        stream_tls_cert: Option<PathBuf> = None,
            flag = "stream-tls-cert", env = "CONTAINER_TLS_CERT";

        /// Key of that certificate in PEM; a changed file is picked up.
        stream_tls_key: Option<PathBuf> = None,
            flag = "stream-tls-key", env = "CONTAINER_TLS_KEY";

        /// Authorities whose client certificates are demanded; empty demands none.
        stream_tls_ca: Option<PathBuf> = None,
            flag = "stream-tls-ca", env = "CONTAINER_TLS_CA";

        /// Close a streaming session after this long without a byte, for example `30m`.
        /// Empty means four hours.
        stream_idle_timeout: Option<Duration> = None,
            flag = "stream-idle-timeout", env = "STREAM_IDLE_TIMEOUT";

        /// Oldest TLS version of the streaming and metrics servers: `VersionTLS12` or
        /// `VersionTLS13`.
        tls_min_version: TlsVersion = TlsVersion::Tls12;

        /// Cipher suites for TLS 1.2 by their IANA names; empty means the library's choice.
        tls_cipher_suites: Vec<String> = [];

        /// Largest gRPC message that is sent, in bytes; 0 or less means 80 MiB.
        grpc_max_send_msg_size: i64 = 80 * 1024 * 1024,
            flag = "grpc-max-send-msg-size", env = "CONTAINER_GRPC_MAX_SEND_MSG_SIZE";

        /// Largest gRPC message that is received, in bytes; 0 or less means 80 MiB.
        grpc_max_recv_msg_size: i64 = 80 * 1024 * 1024,
            flag = "grpc-max-recv-msg-size", env = "CONTAINER_GRPC_MAX_RECV_MSG_SIZE";
    }
}

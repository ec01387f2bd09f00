//! Certificates for registries over HTTPS, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// A server's certificate and key, and the authority that has signed it.
#[derive(Debug)]
pub struct Signed {
    /// The authority's certificate: who has it among its roots trusts the server.
    pub authority: PathBuf,
    /// The server's certificate, for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Makes an authority of its own and a certificate that it signs, as files in `dir`.
#[track_caller]
pub fn signed(dir: &Path) -> Signed {
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(at("server.ext"), EXTENSIONS).unwrap();
    let openssl = |line: &str| {
        let mut command = Command::new(tools::need("openssl"));
        tools::run(command.current_dir(dir).args(line.split(' ')));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"
    ));
    openssl(&format!(
        "req {key} -subj /CN=registry -keyout server.key -out server.csr"
    ));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 1 -days 2 \
         -extfile server.ext -out server.pem",
    );
    Signed {
        authority: at("ca.pem"),
        certificate: at("server.pem"),
        key: at("server.key"),
    }
}

const EXTENSIONS: &str = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n\
                          extendedKeyUsage=serverAuth\n";

//! Certificates for servers and clients of TLS, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;

/// A certificate and key, and the authority that has signed it.
#[derive(Debug)]
pub struct Signed {
    /// The authority's certificate: who has it among its roots trusts the other.
    pub authority: PathBuf,
    /// The certificate, for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Makes an authority of its own and a server's certificate that it signs, as files in `dir`.
#[track_caller]
pub fn signed(dir: &Path) -> Signed {
    signed_for(dir, "serverAuth", "IP:127.0.0.1")
}

/// As [`signed`], for a name instead of 127.0.0.1.
#[track_caller]
pub fn named(dir: &Path, name: &str) -> Signed {
    signed_for(dir, "serverAuth", &format!("DNS:{name}"))
}

/// As [`signed`], a client's.
#[track_caller]
pub fn client(dir: &Path) -> Signed {
    signed_for(dir, "clientAuth", "IP:127.0.0.1")
}

#[track_caller]
fn signed_for(dir: &Path, usage: &str, subject: &str) -> Signed {
    let at = |name: &str| dir.join(name);
    std::fs::create_dir_all(dir).unwrap();
    let extensions =
        format!("subjectAltName={subject}\nbasicConstraints=CA:FALSE\nextendedKeyUsage={usage}\n");
    std::fs::write(at("server.ext"), extensions).unwrap();
    let openssl = |line: &str| {
        let mut command = Command::new(tools::need("openssl"));
        tools::run(command.current_dir(dir).args(line.split(' ')));
    };
    // authorities are told apart by their names: a server lists those whose clients it takes
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=authority-{name} -keyout ca.key -out ca.pem"
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

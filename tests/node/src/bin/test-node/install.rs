//! Puts cricket into a machine as a package and its administrator would.

use cricket_node::machine::SOON;
use cricket_node::{Channel, NodeError};

/// A pod network as contrib's example, its addresses kept where the test looks for them.
const NETWORK: &str = r#"{"cniVersion": "1.0.0", "name": "crio", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "@DATA@/leases", "ranges": [[{"subnet": "10.85.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
"#;

/// The registry that the programs inside serve.
const REGISTRIES: &str = "[[registry]]\nlocation = \"127.0.0.1:5000\"\ninsecure = true\n";

/// Copies what `make install` has made, writes the configuration with everything that survives a
/// reboot below `data`, and enables the service without starting it.
pub fn install(inside: &Channel, data: &str) -> Result<(), NodeError> {
    let shell = |script: &str| inside.good(SOON, &["sh", "-ec", script]);
    // A /usr that is newer than at the image's making would have systemd renew its caches at the
    // next boot, which is a minute under emulation.
    shell("cp -a --no-preserve=timestamps /opt/node/install/. /")?;
    shell(
        "install -D -m644 /usr/share/cricket/examples/policy.json /etc/containers/policy.json
         mkdir -p /etc/cni/net.d /etc/crio/crio.conf.d /etc/systemd/system/cricket.service.d",
    )?;
    let config = format!(
        "[crio]\nroot = \"{data}/containers\"\n[crio.network]\ncni_cache_dir = \"{data}/cni\"\n"
    );
    let files = [
        ("/etc/crio/crio.conf.d/10-test.conf", config),
        ("/etc/containers/registries.conf", REGISTRIES.into()),
        (
            "/etc/cni/net.d/10-crio-bridge.conflist",
            NETWORK.replace("@DATA@", data),
        ),
        (
            "/etc/systemd/system/cricket.service.d/10-test.conf",
            format!("[Unit]\nRequiresMountsFor={data}\n"),
        ),
    ];
    for (path, text) in files {
        inside.put(path, text.as_bytes(), SOON)?;
    }
    shell(&format!(
        "mkdir -p {data}; systemctl daemon-reload; systemctl enable cricket.service"
    ))?;
    Ok(())
}

/// What an error needs when the daemon does not do as it should.
pub fn journal(inside: &Channel) -> String {
    let lines = [
        "journalctl",
        "-b",
        "-u",
        "cricket",
        "--no-pager",
        "-n",
        "60",
        "-o",
        "cat",
    ];
    match inside.good(SOON, &lines) {
        Ok(text) => text,
        Err(error) => format!("no journal: {error}"),
    }
}

//! critest in the machine, against the installed service: the systemd cgroup driver on cgroup v2.

use std::path::Path;
use std::time::Duration;

use cricket_node::machine::SOON;
use cricket_node::{Channel, Machine, NodeError, Workshop};

use crate::install::{install, journal};
use crate::options::Options;

/// Where what survives a reboot is.
const DATA: &str = "/var/lib/cricket-test";
/// All specs, one after the other, under emulation.
const SUITE: Duration = Duration::from_secs(3 * 3600);
/// What critest writes while it works is passed on; this is how often nothing may come.
const SILENCE: Duration = Duration::from_secs(1200);

pub fn run(workshop: &Workshop, options: &Options) -> Result<(), NodeError> {
    let machine = Machine::boot(workshop, &[])?;
    let inside = machine.inside();
    install(inside, DATA)?;
    prepare(inside)?;
    let focus = std::env::var("CRICKET_CONFORMANCE_FOCUS").unwrap_or_default();
    let script = format!(
        "cd /opt/node/critest
         ./docker-registry serve registry.yml >registry.log 2>&1 &
         mkdir -p /tmp/t; export TMPDIR=/tmp/t; focus='{focus}'
         ./critest --runtime-endpoint unix:///var/run/crio/crio.sock \
             --image-endpoint unix:///var/run/crio/crio.sock --runtime-service-timeout 300s \
             --ginkgo.timeout {}s --ginkgo.no-color --ginkgo.v --ginkgo.json-report report.json \
             ${{focus:+--ginkgo.focus \"$focus\"}} \
             --ginkgo.skip 'public image with digest should be pulled' 2>&1 || :
         kill %1; echo critest ended",
        SUITE.as_secs()
    );
    let mut running = inside.start(&["bash", "-c", &script])?;
    let log = options.report.join("critest.log");
    let mut text = String::new();
    while let Some(line) = running.line(SILENCE)? {
        text += &line;
        text.push('\n');
        write(&log, &text)?;
    }
    running.succeed(SOON)?;
    for name in ["report.json", "features.json"] {
        let file = format!("/opt/node/critest/{name}");
        write(
            &options.report.join(name),
            &inside.good(SOON, &["cat", &file])?,
        )?;
    }
    write(&options.report.join("journal.log"), &journal(inside))?;
    let failed = inside.good(SOON, &["systemctl", "--failed", "--plain", "--no-legend"])?;
    if !failed.trim().is_empty() {
        return Err(NodeError::Wrong(format!("failed units: {failed}")));
    }
    machine.power_off()
}

fn prepare(inside: &Channel) -> Result<(), NodeError> {
    // The stand-ins' registry instead of the other tests'; a user namespace's root must get to what
    // critest makes.
    let script = "cp /opt/node/critest/registries.conf /etc/containers/registries.conf
        # critest loads its AppArmor profiles by sudo, which the machine need not have.
        printf '#!/bin/sh\nexec \"$@\"\n' >/usr/local/bin/sudo; chmod +x /usr/local/bin/sudo
        crun features >/opt/node/critest/features.json
        systemctl start cricket.service";
    inside.good(SOON, &["sh", "-ec", script]).map(drop)
}

fn write(file: &Path, text: &str) -> Result<(), NodeError> {
    std::fs::write(file, text).map_err(NodeError::io(file.display().to_string()))
}

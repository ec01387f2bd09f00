//! AppArmor and user namespaces as the machine's kernel has them, by crun and by runc.

use cricket_node::{Channel, Machine, NodeError, Workshop};

use crate::install::install;
use crate::short::{expect, long, say, shell, step};

/// Where what survives a reboot is.
const DATA: &str = "/var/lib/cricket-test";
/// Both runtimes side by side. The machine's own runc has no idmapped mounts.
const HANDLERS: &str = "[crio.runtime.runtimes.crun]
runtime_path = \"/usr/bin/crun\"
[crio.runtime.runtimes.runc]
runtime_path = \"/opt/node/runc\"
";

pub fn run(workshop: &Workshop) -> Result<(), NodeError> {
    let machine = Machine::boot(workshop, &[])?;
    step(machine.inside(), both)?;
    machine.power_off()?;
    println!("node: AppArmor and user namespaces: all as it must be");
    Ok(())
}

fn both(inside: &Channel) -> Result<(), NodeError> {
    expect(
        "AppArmor is on and /run lets no program run, as Debian has it",
        &shell(
            inside,
            "cat /sys/module/apparmor/parameters/enabled; findmnt -no OPTIONS /run | grep -o noexec",
        )?,
        "Y\nnoexec",
    )?;
    install(inside, DATA)?;
    inside.put(
        "/etc/crio/crio.conf.d/20-handlers.conf",
        HANDLERS.as_bytes(),
        cricket_node::machine::SOON,
    )?;
    shell(inside, "systemctl start cricket.service")?;
    let mut wrong = Vec::new();
    for part in ["apparmor", "userns"] {
        match long(inside, &[part]) {
            Ok(text) => text.lines().for_each(say),
            Err(error) => wrong.push(format!("{part}: {error}")),
        }
    }
    if !wrong.is_empty() {
        return Err(NodeError::Wrong(wrong.join("\n")));
    }
    expect(
        "failed units",
        &shell(inside, "systemctl --failed --no-legend --plain")?,
        "",
    )
}

//! The short form, which CI runs: cricket as a service, a pod under the systemd driver on cgroup v2,
//! a restart, kill -9, a reboot. The whole form looks at the driver's work closely before the reboot.

use std::time::Duration;

use cricket_node::machine::SOON;
use cricket_node::{Channel, Machine, NodeError, Workshop};

use crate::install::{install, journal};

/// Where what survives a reboot is: the root disk here.
const DATA: &str = "/var/lib/cricket-test";
/// For what is more than a moment's work.
const LONG: Duration = Duration::from_secs(900);

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Short,
    Whole,
}

pub fn run(workshop: &Workshop, form: Form) -> Result<(), NodeError> {
    let machine = Machine::boot(workshop, &[])?;
    let told = step(machine.inside(), |inside| before_reboot(inside, form))?;
    machine.reboot()?;
    let machine = Machine::boot(workshop, &[])?;
    step(machine.inside(), |inside| after_reboot(inside, &told))?;
    machine.power_off()?;
    println!("node: 2 boots, all as it must be");
    Ok(())
}

pub(crate) fn step<T>(
    inside: &Channel,
    work: impl FnOnce(&Channel) -> Result<T, NodeError>,
) -> Result<T, NodeError> {
    work(inside).map_err(|error| {
        let journal = journal(inside);
        NodeError::Wrong(format!("{error}\nthe service's journal:\n{journal}"))
    })
}

fn before_reboot(inside: &Channel, form: Form) -> Result<String, NodeError> {
    let facts = "stat -fc %T /sys/fs/cgroup; cat /sys/module/apparmor/parameters/enabled";
    expect(
        "a machine with cgroup v2 and AppArmor",
        &shell(inside, facts)?,
        "cgroup2fs\nY",
    )?;
    install(inside, DATA)?;
    shell(inside, "systemctl start cricket.service")?;
    expect(
        "the unit has CRI-O's name too",
        &shell(inside, "systemctl is-active crio.service")?,
        "active",
    )?;
    say("cricket runs as a service");
    let told = guest(inside, &["pod", "up"])?;
    guest(inside, &["pod", "check", &told])?;
    say("a pod and a pod with a shared PID namespace run, in scopes of their pods' slices");
    shell(inside, "systemctl restart cricket.service")?;
    guest(inside, &["pod", "check", &told])?;
    say("they run on over a restart of the service");
    let kill = "old=$(systemctl show -P MainPID cricket.service); kill -9 \"$old\"
        until new=$(systemctl show -P MainPID cricket.service) && [ \"$new\" != 0 ] &&
            [ \"$new\" != \"$old\" ]; do sleep 0.2; done
        systemctl is-active --wait cricket.service || systemctl start cricket.service";
    shell(inside, kill)?;
    guest(inside, &["pod", "check", &told])?;
    say("and over kill -9");
    if form == Form::Whole {
        for line in long(inside, &["scopes"])?.lines() {
            say(line);
        }
        guest(inside, &["pod", "check", &told])?;
    }
    Ok(told)
}

fn after_reboot(inside: &Channel, told: &str) -> Result<(), NodeError> {
    expect(
        "the service after a boot",
        &shell(inside, "systemctl is-active cricket.service")?,
        "active",
    )?;
    guest(inside, &["pod", "gone", told, DATA])?;
    say("after a reboot: no pod is ready, nothing of them is left, the image is there");
    let told = guest(inside, &["pod", "up"])?;
    guest(inside, &["pod", "down", &told, DATA])?;
    say("pods run again, and leave nothing");
    Ok(())
}

pub(crate) fn say(what: &str) {
    println!("node: {what}");
}

pub(crate) fn shell(inside: &Channel, script: &str) -> Result<String, NodeError> {
    inside.good(SOON, &["sh", "-ec", script])
}

pub(crate) fn guest(inside: &Channel, words: &[&str]) -> Result<String, NodeError> {
    let argv = [&["/opt/node/node-guest"], words].concat();
    let text = inside.good(SOON, &argv)?;
    Ok(text.trim().to_owned())
}

/// A program that makes many pods, each in seconds under emulation.
pub(crate) fn long(inside: &Channel, words: &[&str]) -> Result<String, NodeError> {
    let argv = [&["/opt/node/node-guest"], words].concat();
    inside.good(LONG, &argv)
}

pub(crate) fn expect(what: &str, found: &str, expected: &str) -> Result<(), NodeError> {
    if found.trim() == expected {
        return Ok(());
    }
    Err(NodeError::Wrong(format!(
        "{what}: {found:?} instead of {expected:?}"
    )))
}

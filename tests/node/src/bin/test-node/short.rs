//! The short form, which CI runs: cricket as a service, a pod under the systemd driver on cgroup v2,
//! a restart, kill -9, a reboot. No unit may have failed by the way, that of the boot after the
//! installation among them: what cricket puts into sysctl.d, modules-load.d and tmpfiles.d is read by
//! units of systemd's. The whole form looks at the driver's work closely before the reboot.

use std::time::Duration;

use cricket_node::machine::{SOON, failed_units};
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
    // A unit that the emulated machine has failed before there was anything of ours in it.
    let plain = failed_units(machine.inside())?;
    let told = step(machine.inside(), |inside| {
        before_reboot(inside, form, &plain)
    })?;
    machine.reboot()?;
    let machine = Machine::boot(workshop, &[])?;
    step(machine.inside(), |inside| {
        after_reboot(inside, &told, &plain)
    })?;
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

fn before_reboot(inside: &Channel, form: Form, plain: &[String]) -> Result<String, NodeError> {
    let facts = "stat -fc %T /sys/fs/cgroup; cat /sys/module/apparmor/parameters/enabled";
    expect(
        "a machine with cgroup v2 and AppArmor",
        &shell(inside, facts)?,
        "cgroup2fs\nY",
    )?;
    install(inside, DATA)?;
    // What an administrator runs after the installation (docs/first-cluster.md).
    shell(
        inside,
        "systemd-tmpfiles --create cricket.conf
         systemctl restart systemd-modules-load.service systemd-sysctl.service",
    )?;
    shell(inside, "systemctl start cricket.service")?;
    none_failed("after the installation", inside, plain)?;
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
    // The whole form has containers killed for want of memory after this, whose scopes have failed.
    none_failed("after restarts with pods", inside, plain)?;
    if form == Form::Whole {
        for line in long(inside, &["scopes"])?.lines() {
            say(line);
        }
        guest(inside, &["pod", "check", &told])?;
    }
    Ok(told)
}

fn after_reboot(inside: &Channel, told: &str, plain: &[String]) -> Result<(), NodeError> {
    none_failed("after the boot with cricket installed", inside, plain)?;
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
    none_failed("at the end", inside, plain)?;
    say("no unit has failed");
    Ok(())
}

/// Sees that no unit has failed, of cricket's or any other, but those that had without cricket; shows
/// what systemd says of one that has.
fn none_failed(when: &str, inside: &Channel, plain: &[String]) -> Result<(), NodeError> {
    let mut failed = failed_units(inside)?;
    failed.retain(|unit| !plain.contains(unit));
    if failed.is_empty() {
        return Ok(());
    }
    let status = ["systemctl", "status", "--no-pager", "--full", "-n", "20"];
    let names: Vec<&str> = failed.iter().map(String::as_str).collect();
    // It exits with 3 for a unit that does not run.
    let output = inside.run(SOON, &[&status[..], &["--"], &names].concat())?;
    Err(NodeError::Wrong(format!(
        "{when}, failed units: {}\n{}",
        failed.join(", "),
        String::from_utf8_lossy(&output.stdout)
    )))
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

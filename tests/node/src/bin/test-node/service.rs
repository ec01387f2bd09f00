//! The units as a node's administrator uses them: reload, a daemon that hangs, an upgrade of the
//! package, stop and start, and a shutdown that leaves the last words of every container.

use cricket_node::machine::SOON;
use cricket_node::{Channel, Machine, NodeError, Workshop};

use crate::install::install;
use crate::short::{expect, guest, say, shell, step};

/// Where what survives a reboot is: the root disk here.
const DATA: &str = "/var/lib/cricket-test";
/// Waits, in the guest's shell, until a condition holds; the call's own deadline ends it.
const UNTIL: &str = "until_() { until eval \"$1\"; do sleep 0.3; done; }\n";

pub fn run(workshop: &Workshop) -> Result<(), NodeError> {
    let machine = Machine::boot(workshop, &[])?;
    step(machine.inside(), in_use)?;
    machine.power_off()?;
    let machine = Machine::boot(workshop, &[])?;
    step(machine.inside(), |inside| {
        last_words(inside)?;
        shell(inside, "rm -r /var/log/last-words; systemctl start cricket")?;
        speakers(inside)?;
        // Nobody is there who could answer `cricket stop --all`.
        shell(inside, "systemctl stop cricket.service").map(drop)
    })?;
    machine.power_off()?;
    let machine = Machine::boot(workshop, &[])?;
    step(machine.inside(), |inside| {
        both_said_bye(inside)?;
        had_its_grace(inside)?;
        say("and so did a shutdown without a daemon, by systemd alone");
        Ok(())
    })?;
    machine.power_off()?;
    println!("node: the units: 3 boots, all as it must be");
    Ok(())
}

fn in_use(inside: &Channel) -> Result<(), NodeError> {
    install(inside, DATA)?;
    units(inside)?;
    let told = guest(inside, &["pod", "up"])?;
    let still_run = |inside: &Channel| guest(inside, &["pod", "check", &told]).map(drop);
    reload(inside)?;
    hang(inside)?;
    still_run(inside)?;
    say("a reload is told with its outcome, a daemon that hangs is started anew, pods run on");
    upgrade(inside)?;
    still_run(inside)?;
    say("pods run on over an upgrade of the package");
    shell(inside, "systemctl stop cricket.service")?;
    shell(inside, "! systemctl -q is-active cricket.service")?;
    shell(inside, "systemctl -q is-active cricket-shutdown.service")?;
    shell(inside, "systemctl start crio.service")?;
    still_run(inside)?;
    say("and over a stop, with a start by CRI-O's name");
    guest(inside, &["pod", "down", &told, DATA])?;
    expect(
        "failed units",
        &shell(inside, "systemctl --failed --no-legend --plain")?,
        "",
    )?;
    speakers(inside)
}

/// A workload and a static pod that say good-bye, and one that is not to be told.
fn speakers(inside: &Channel) -> Result<(), NodeError> {
    guest(inside, &["last-words"])?;
    let up = format!("{UNTIL} until_ '[ $(grep -rl \" up$\" /var/log/last-words | wc -l) = 3 ]'");
    shell(inside, &up).map(drop)
}

/// What `systemctl enable --now` has made of the units.
fn units(inside: &Channel) -> Result<(), NodeError> {
    let verify = "systemd-analyze verify --man=no /usr/lib/systemd/system/cricket*.service 2>&1";
    expect(
        "what systemd says of the units",
        &shell(inside, verify)?,
        "",
    )?;
    shell(inside, "systemctl start cricket.service")?;
    for (unit, property, value) in [
        ("cricket", "ActiveState", "active"),
        ("cri-o", "Id", "cricket.service"),
        ("cricket-shutdown", "ActiveState", "active"),
        ("cricket-shutdown", "UnitFileState", "enabled"),
        ("cricket", "WatchdogUSec", "1min"),
        ("cricket", "OOMScoreAdjust", "-999"),
        ("cricket", "KillMode", "process"),
        (
            "cricket",
            "StatusText",
            "serving on /var/run/crio/crio.sock",
        ),
    ] {
        let found = shell(
            inside,
            &format!("systemctl show -P {property} {unit}.service"),
        )?;
        expect(&format!("{unit}: {property}"), &found, value)?;
    }
    let refused = shell(inside, "! systemctl stop cricket-shutdown.service 2>&1")?;
    if !refused.contains("refused") {
        return Err(NodeError::Wrong(format!(
            "cricket-shutdown.service can be stopped by hand: {refused:?}"
        )));
    }
    Ok(())
}

fn reload(inside: &Channel) -> Result<(), NodeError> {
    let wrong = "/etc/crio/crio.conf.d/99-wrong.conf";
    inside.put(wrong, b"[crio.runtime]\nlog_level = \"loud\"\n", SOON)?;
    let status = "case $(systemctl show -P StatusText cricket) in";
    shell(
        inside,
        &format!(
            "systemctl reload cricket
             {status} *\"reload refused\"*loud*) ;; *) false ;; esac
             rm {wrong}; systemctl reload cricket
             {status} *refused*) false ;; esac
             systemctl -q is-active cricket"
        ),
    )
    .map(drop)
}

/// A stopped process answers nobody and ends by no signal that can be caught.
fn hang(inside: &Channel) -> Result<(), NodeError> {
    let drop_in = "/run/systemd/system/cricket.service.d/10-watchdog.conf";
    shell(
        inside,
        &format!(
            "{UNTIL} mkdir -p $(dirname {drop_in})
             printf '[Service]\\nWatchdogSec=15\\n' >{drop_in}
             systemctl daemon-reload; systemctl restart cricket
             old=$(systemctl show -P MainPID cricket); kill -STOP $old
             until_ '[ $(systemctl show -P NRestarts cricket) -ge 1 ]'
             until_ 'systemctl -q is-active cricket'
             [ $(systemctl show -P MainPID cricket) != $old ]
             rm {drop_in}; systemctl daemon-reload; systemctl restart cricket
             systemctl reset-failed cricket"
        ),
    )
    .map(drop)
}

/// As a package manager does: new files under the old names, units read again, a restart.
fn upgrade(inside: &Channel) -> Result<(), NodeError> {
    shell(
        inside,
        "before=$(stat -c %i /usr/bin/cricket)
         cp -a --no-preserve=timestamps --remove-destination /opt/node/install/usr/. /usr/
         [ $(stat -c %i /usr/bin/cricket) != $before ]
         systemctl daemon-reload
         systemctl try-restart cricket.service
         [ $(stat -Lc %i /proc/$(systemctl show -P MainPID cricket)/exe) = $(stat -c %i /usr/bin/cricket) ]",
    )
    .map(drop)
}

/// After a shutdown: what both said as their last, and that the static pod was the last.
fn last_words(inside: &Channel) -> Result<(), NodeError> {
    let [workload, fixed] = both_said_bye(inside)?;
    if workload >= fixed {
        return Err(NodeError::Wrong(format!(
            "the static pod ended at {fixed}, before the workload at {workload}"
        )));
    }
    had_its_grace(inside)?;
    say("a shutdown left the last words of all, the static pod's last, the network still there");
    Ok(())
}

/// When the workload and the static pod said their last words.
fn both_said_bye(inside: &Channel) -> Result<[String; 2], NodeError> {
    let said = |name: &str| {
        let find = format!("cat $(find /var/log/last-words -path '*/{name}/0.log')");
        let log = shell(inside, &find)?;
        let last = log.lines().last().unwrap_or_default();
        let (at, words) = last.split_once(" stdout F ").unwrap_or_default();
        let what = format!("the last words of the {name}");
        expect(&what, words, "bye, connected")?;
        Ok::<_, NodeError>(at.to_owned())
    };
    Ok([said("workload")?, said("static")?])
}

/// What ignores its signal is listened to until its grace of 5 seconds is over, and killed then.
fn had_its_grace(inside: &Channel) -> Result<(), NodeError> {
    let script = "log=$(find /var/log/last-words -path '*/stubborn/0.log')
         seconds() { date -d \"${1%% *}\" +%s; }
         told=$(seconds \"$(grep -m 1 'told to end' \"$log\")\")
         last=$(seconds \"$(tail -n 1 \"$log\")\")
         echo $((last - told))";
    let heard = shell(inside, script)?;
    match heard.trim().parse::<u32>() {
        Ok(4..=20) => Ok(()),
        _ => Err(NodeError::Wrong(format!(
            "a container with 5 seconds of grace was heard for {heard:?} of them"
        ))),
    }
}

//! Statistics of a real process, and what calls cost.

use super::*;

#[test]
fn figures_of_a_working_process_are_seen_and_end_with_the_cgroup() {
    let scratch = Scratch::host();
    let path = scratch.container();
    scratch.make(&path);
    let mut command = Command::new("sh");
    // Eight megabytes in the shell's memory; the kernel is late with fewer pages (it adds up the
    // figures of its processors when enough has changed).
    // Eight megabytes in the shell's memory; the kernel is late with fewer pages (it adds up the
    // figures of its processors when enough has changed).
    let script =
        "read line; x=$(head -c 8000000 /dev/zero | tr '\\0' x); echo up; sleep 1000; : $x";
    command
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    scratch.move_in(&path, process.pid());
    drop(process.0.stdin.take());
    assert_eq!(process.line(), "up\n");

    let reader = scratch.cgroups.reader(&path).unwrap();
    let stats = reader.sample_all().unwrap();
    let cpu = stats.cpu.as_ref().unwrap();
    assert!(cpu.usage_ns > 1_000_000, "{cpu:?}");
    let memory = stats.memory.as_ref().unwrap();
    assert!(
        memory.rss_bytes > 6_000_000 && memory.page_faults > 1000,
        "{memory:?}"
    );
    assert!(memory.working_set_bytes <= memory.usage_bytes);
    assert_eq!((memory.limit_bytes, memory.available_bytes()), (None, 0));
    assert_eq!(memory.oom_kills, Some(0));
    assert_eq!(memory.swap.is_some(), scratch.cgroups.controllers().swap);
    assert_eq!(stats.pids.unwrap().limit, None);
    assert!((1..=2).contains(&stats.pids.unwrap().current));
    assert_eq!(stats.io.is_some(), scratch.cgroups.controllers().io);
    let pod = scratch
        .cgroups
        .stats(&scratch.cgroups.pod_path(&scratch.parent).unwrap())
        .unwrap();
    assert!(pod.cpu.unwrap().usage_ns >= cpu.usage_ns);

    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    scratch.cgroups.remove(&path).unwrap();
    for made_again in [false, true] {
        if made_again {
            scratch.make(&path);
        }
        let gone = reader.sample().unwrap_err();
        assert!(matches!(gone, CgroupError::Gone { .. }), "{gone}");
    }
}

#[test]
fn cgroup2_without_controllers_still_counts_processor_time() {
    let Some(scratch) = Scratch::unified() else {
        return;
    };
    let path = scratch.container();
    scratch.make(&path);
    let mut command = Command::new("sh");
    let script =
        "read line; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo up; sleep 1000";
    command.args(["-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    scratch.move_in(&path, process.pid());
    drop(process.0.stdin.take());
    assert_eq!(process.line(), "up\n");

    let reader = scratch.cgroups.reader(&path).unwrap();
    let stats = reader.sample_all().unwrap();
    let cpu = stats.cpu.unwrap();
    assert!(cpu.usage_ns > 1_000_000, "{cpu:?}");
    assert!(
        cpu.user_ns.unwrap() + cpu.system_ns.unwrap() <= cpu.usage_ns + 1000,
        "{cpu:?}"
    );
    let dir = tree::shown(
        &scratch.cgroups.hierarchies[0],
        &CgroupPath::parse(&path).unwrap(),
    );
    assert_eq!(stats.memory.is_some(), dir.join("memory.current").exists());
    assert_eq!(
        stats.io_pressure.is_some(),
        std::fs::read(dir.join("io.pressure")).is_ok()
    );

    scratch.cgroups.kill(&path, PATIENCE).unwrap();
    scratch.cgroups.remove(&path).unwrap();
    let gone = reader.sample().unwrap_err();
    assert!(matches!(gone, CgroupError::Gone { .. }), "{gone}");
}

/// Not a check but a measurement: `cargo test --release cgroup::tests::figures::cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn cost() {
    let scratch = Scratch::host();
    let (cgroups, parent) = (&scratch.cgroups, scratch.parent.as_str());
    let path = scratch.container();
    scratch.make(&path);
    let process = Process::sleeping();
    scratch.move_in(&path, process.pid());
    let time = |what: &str, count: u32, work: &mut dyn FnMut()| {
        work();
        let start = std::time::Instant::now();
        for _ in 0..count {
            work();
        }
        eprintln!("{what}: {:?}", start.elapsed() / count);
    };
    let reader = cgroups.reader(&path).unwrap();
    time("sample", 5000, &mut || drop(reader.sample().unwrap()));
    time("sample_all", 5000, &mut || {
        drop(reader.sample_all().unwrap())
    });
    time("open reader", 5000, &mut || {
        drop(cgroups.reader(&path).unwrap())
    });
    time("processes", 5000, &mut || {
        drop(cgroups.processes(&path).unwrap())
    });
    let id = &ID[..63];
    time("sandbox create and remove", 500, &mut || {
        cgroups.create_sandbox(parent, id).unwrap();
        cgroups.remove_sandbox(parent, id).unwrap();
    });
    let monitor = Process::sleeping();
    time("place monitor", 500, &mut || {
        cgroups
            .place_monitor(monitor.pid(), id, parent, "")
            .unwrap();
    });
    time("remove of nothing", 5000, &mut || {
        cgroups.remove_container(parent, id).unwrap()
    });
}

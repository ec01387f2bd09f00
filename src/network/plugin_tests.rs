//! Tests of running plugins, with scripts that do what plugins must not do.

use std::fs;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A directory with one plugin, a shell script.
fn script(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

async fn run_script(text: &str, stdin: &[u8], patience: Duration) -> Result<Output, PluginFailure> {
    let (_dir, path) = script(text);
    let env = [("CNI_COMMAND", "ADD".to_owned())];
    let deadline = Instant::now() + patience;
    run(
        &Call {
            path: &path,
            env: &env,
            stdin,
            deadline,
        },
        |_| {},
    )
    .await
}

async fn failure(text: &str) -> PluginFailure {
    run_script(text, b"{}", LONG).await.unwrap_err()
}

#[tokio::test]
async fn input_environment_and_output_arrive() {
    let output = run_script("echo noise >&2; echo $CNI_COMMAND; cat", b"{\"a\":1}", LONG).await;
    let output = output.unwrap();
    assert_eq!(output.stdout, b"ADD\n{\"a\":1}");
    assert_eq!(output.stderr, "noise");
}

#[tokio::test]
async fn a_large_input_and_a_large_output_cross() {
    let input = vec![b'x'; 1 << 20];
    assert_eq!(run_script("cat", &input, LONG).await.unwrap().stdout, input);
}

#[tokio::test]
async fn a_plugin_need_not_read_its_input() {
    let input = vec![b'x'; 1 << 20];
    assert_eq!(
        run_script("exec <&-; echo ok", &input, LONG)
            .await
            .unwrap()
            .stdout,
        b"ok\n"
    );
}

#[tokio::test]
async fn its_own_error_document_is_the_error() {
    let failed = failure(
        r#"echo trace >&2; echo '{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"again"}'; exit 1"#,
    )
    .await;
    assert_eq!(failed.to_string(), "busy; again; stderr: trace (code 11)");
}

#[tokio::test]
async fn without_an_error_document_its_end_and_output_are_the_error() {
    for (text, says) in [
        ("exit 3", "exit status: 3, without an error document"),
        ("echo oops; exit 3", "; stdout: oops"),
        ("echo oops >&2; exit 3", "; stderr: oops"),
        ("kill -SEGV $$", "signal: 11"),
        (
            "echo '{\"code\":7}'; exit 1",
            "without an error document; stdout: {\"code\":7}",
        ),
    ] {
        let error = failure(text).await.to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[tokio::test]
async fn endless_output_is_cut_off() {
    let failed = failure("cat /dev/zero").await;
    assert!(
        matches!(failed, PluginFailure::TooMuchOutput { limit: MAX_STDOUT }),
        "{failed}"
    );
    let failed = failure("head -c 10000000 /dev/zero").await;
    assert!(
        matches!(failed, PluginFailure::TooMuchOutput { .. }),
        "{failed}"
    );
}

#[tokio::test]
async fn of_endless_stderr_the_end_is_kept() {
    let output = run_script(
        "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo last >&2",
        b"",
        LONG,
    );
    let stderr = output.await.unwrap().stderr;
    assert!(
        stderr.ends_with("xxxlast") && stderr.len() < STDERR_TAIL,
        "{stderr}"
    );
}

#[tokio::test]
async fn a_plugin_that_never_answers_is_killed_with_its_children() {
    // On a machine so busy that the child does not start before the deadline, try a later one.
    for seconds in [1, 10, 60] {
        let (dir, path) = script(
            "trap '' TERM INT HUP\n\
             cd \"$HERE\"\n\
             sh -c 'trap \"\" TERM; echo $$ > child; exec sleep 1000' &\n\
             while [ ! -s child ]; do sleep 0.01; done\n\
             echo waiting >&2; mv child child-runs; wait",
        );
        let env = [("HERE", dir.path().display().to_string())];
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let failed = run(
            &Call {
                path: &path,
                env: &env,
                stdin: b"",
                deadline,
            },
            |_| {},
        )
        .await;
        let Ok(child) = fs::read_to_string(dir.path().join("child-runs")) else {
            continue;
        };
        let failed = failed.unwrap_err();
        assert!(
            matches!(&failed, PluginFailure::Deadline { stderr, .. } if stderr == "waiting"),
            "{failed}"
        );
        return ends(Pid::from_raw(child.trim().parse().unwrap())).await;
    }
    panic!("the child never started");
}

/// Waits for a killed process to be gone.
async fn ends(pid: Pid) {
    let gone = async {
        while is_running(pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
}

/// Whether a process exists and is no zombie.
fn is_running(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with(['Z', 'X'])
    })
}

#[tokio::test]
async fn a_child_that_keeps_the_output_open_is_not_waited_for() {
    // The child is killed by its number when the test has seen that nobody waits for it.
    let output = run_script("sleep 1000 & echo $!", b"", LONG).await.unwrap();
    let child: i32 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(is_running(Pid::from_raw(child)));
    nix::sys::signal::kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn dropping_the_call_kills_the_plugin() {
    let (_dir, path) = script("exec sleep 1000");
    let (tell, told) = tokio::sync::oneshot::channel();
    let call = tokio::spawn(async move {
        let deadline = Instant::now() + LONG;
        let started = |pid| tell.send(pid).unwrap();
        run(
            &Call {
                path: &path,
                env: &[],
                stdin: b"",
                deadline,
            },
            started,
        )
        .await
        .map(drop)
    });
    let pid = Pid::from_raw(i32::try_from(told.await.unwrap()).unwrap());
    assert!(is_running(pid));
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    ends(pid).await;
}

#[tokio::test]
async fn a_program_that_is_still_being_written_is_waited_for() {
    let (_dir, path) = script("echo ok");
    let open = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let call = Call {
        path: &path,
        env: &[],
        stdin: b"",
        deadline: Instant::now() + LONG,
    };
    let mut running = Box::pin(run(&call, |_| {}));
    // Polled once, it has met ETXTBSY and waits.
    assert!(futures_util::poll!(&mut running).is_pending());
    drop(open);
    assert_eq!(running.await.unwrap().stdout, b"ok\n");
}

#[tokio::test]
async fn a_program_that_cannot_be_run_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    fs::write(&path, "\0not a program").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let call = Call {
        path: &path,
        env: &[],
        stdin: b"",
        deadline: Instant::now() + LONG,
    };
    let error = run(&call, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("text: Exec format error"), "{error}");
}

#[test]
fn a_plugin_is_taken_from_the_first_directory_that_has_it() {
    let (first, second) = (tempfile::tempdir().unwrap(), script("").0);
    fs::create_dir(first.path().join("plugin")).unwrap();
    let dirs = [first.path().to_owned(), second.path().to_owned()];
    assert_eq!(find("plugin", &dirs).unwrap(), second.path().join("plugin"));
    assert!(find("plugin", &dirs[..1]).is_err());
    assert!(
        find("plugin", &[])
            .unwrap_err()
            .to_string()
            .contains("plugin_dirs is empty")
    );
}

#[test]
fn only_failures_that_mean_nothing_is_there_are_forgiven_on_del() {
    let reported = |code, msg: &str| PluginFailure::Reported {
        code,
        msg: msg.into(),
        details: String::new(),
        stderr: String::new(),
    };
    for (failure, netns_is_gone, gone) in [
        (reported(3, ""), false, true),
        (reported(100, "link eth0 not found"), false, true),
        (
            reported(100, "open /x: no such file or directory"),
            true,
            true,
        ),
        (
            reported(100, "open /x: no such file or directory"),
            false,
            false,
        ),
        (reported(11, "try again"), true, false),
        (
            PluginFailure::NotFound(find("absent", &[]).unwrap_err()),
            true,
            false,
        ),
    ] {
        assert_eq!(failure.means_already_gone(netns_is_gone), gone, "{failure}");
    }
}

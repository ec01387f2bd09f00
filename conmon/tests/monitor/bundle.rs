//! A bundle of busybox.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// What a test wants of its container.
pub struct Wanted<'a> {
    pub script: &'a str,
    pub terminal: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub memory_limit: Option<u64>,
    pub log: bool,
    pub runtime: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    pub fn script(script: &'a str) -> Self {
        Self {
            script,
            terminal: false,
            stdin: false,
            stdin_once: false,
            memory_limit: None,
            log: true,
            runtime: None,
        }
    }
}

/// Makes the bundle directory with root file system and config.json.
pub fn make_bundle(bundle: &Path, id: &str, wanted: &Wanted<'_>) {
    let rootfs = bundle.join("rootfs");
    for directory in ["bin", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    let busybox = fs::copy("/bin/busybox", rootfs.join("bin/busybox"));
    assert!(
        busybox.is_ok(),
        "these tests need the package busybox-static: {busybox:?}"
    );
    for applet in [
        "sh", "cat", "echo", "sleep", "stty", "seq", "head", "yes", "dd", "kill", "true",
    ] {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    let mut script = String::new();
    for character in wanted.script.chars() {
        match character {
            '"' | '\\' => write!(script, "\\{character}").unwrap(),
            '\n' => script.push_str("\\n"),
            other => script.push(other),
        }
    }
    let memory = wanted
        .memory_limit
        .map(|limit| format!(r#""resources":{{"memory":{{"limit":{limit}}}}},"#))
        .unwrap_or_default();
    let terminal = wanted.terminal;
    let config = format!(
        r#"{{"ociVersion":"1.0.2","process":{{"terminal":{terminal},"user":{{"uid":0,"gid":0}},
        "args":["/bin/sh","-c","{script}"],"env":["PATH=/bin"],"cwd":"/",
        "noNewPrivileges":true}},"root":{{"path":"rootfs"}},
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["mode=755"]}},
        {{"destination":"/dev/pts","type":"devpts","source":"devpts",
          "options":["newinstance","ptmxmode=0666","mode=0620"]}}],
        "linux":{{"cgroupsPath":"/{id}",{memory}
        "namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}}]}}}}"#
    );
    fs::write(bundle.join("config.json"), config).unwrap();
}

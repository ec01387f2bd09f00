//! Exec and attach on a terminal: crictl, by both of its transports, on a real pseudo-terminal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use cricket_harness::{Node, requests, tools};
use rustix::termios::{Winsize, tcsetwinsize};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// How crictl carries streams.
const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

/// Tells the size of its terminal for each line that it reads.
const TELLS_SIZE: &str = "while read word; do stty size; done";

/// crictl on a terminal of its own.
struct Terminal {
    keyboard: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(node: &Node, arguments: &[&str]) -> Terminal {
        let pty = nix::pty::openpty(None, None).unwrap();
        let (keyboard, user) = (File::from(pty.master), File::from(pty.slave));
        resize(&keyboard, 33, 77);
        let crictl = node.crictl(arguments);
        // It becomes crictl, so the child's pid is that of crictl.
        let mut command = Command::new(tools::need("setsid"));
        command
            .arg("--ctty")
            .arg(crictl.get_program())
            .args(crictl.get_args());
        let end = || Stdio::from(user.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut screen = keyboard.try_clone().unwrap();
        let collected = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                collected.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Terminal {
            keyboard,
            child,
            shown,
        }
    }

    fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    fn shows(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).contains(text)
    }

    /// Asks what tells its size until it is this one.
    async fn tells(&mut self, node: &Node, size: &str) {
        node.until(size, || {
            self.types(b"size\n");
            self.shows(size)
        })
        .await;
    }

    /// Whether crictl ended well.
    async fn ended(&mut self, node: &Node) -> bool {
        let mut status = None;
        node.until("crictl ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The kernel tells crictl with SIGWINCH.
fn resize(terminal: &File, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

#[tokio::test]
async fn a_terminal_has_the_size_of_the_clients_and_hears_what_is_typed() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("tty", &image, &["sleep", "1000"]).await;
    let shell = "read word; stty size; echo heard $word; tty; exit 3";
    for transport in TRANSPORTS {
        let head = ["exec", "-it", "--transport", transport, &id];
        let mut terminal = Terminal::start(&node, &[&head[..], &["sh", "-c", shell]].concat());
        terminal.types(b"cricket\n");
        for text in ["33 77", "heard cricket", "/dev/pts/", "exit code 3"] {
            node.until(text, || terminal.shows(text)).await;
        }
        assert!(!terminal.ended(&node).await, "{transport}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_command_and_a_container_follow_the_clients_terminal_when_it_is_resized() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    for transport in TRANSPORTS {
        let pod_config = node.pod_config(&format!("resize-{transport}"));
        let pod = node.cri.run_pod(&pod_config).await.unwrap();
        let mut config = requests::container("main", &image, &["sh", "-c", TELLS_SIZE]);
        (config.tty, config.stdin) = (true, true);
        let id = node.run_in(&pod, &pod_config, &config).await;
        let exec = ["exec", "-it", "--transport", transport, &id];
        let exec = [&exec[..], &["sh", "-c", TELLS_SIZE]].concat();
        let attach = ["attach", "-it", "--transport", transport, &id];
        for arguments in [&exec[..], &attach[..]] {
            let mut terminal = Terminal::start(&node, arguments);
            terminal.tells(&node, "33 77").await;
            resize(&terminal.keyboard, 44, 99);
            terminal.tells(&node, "44 99").await;
        }
    }
    node.finish().await;
}

#[tokio::test]
async fn control_c_interrupts_the_command_and_not_the_client() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("interrupt", &image, &["sleep", "1000"]).await;
    let script = "trap 'echo caught it; exit 0' INT; echo 'now ready'; while :; do sleep 1; done";
    for transport in TRANSPORTS {
        let head = ["exec", "-it", "--transport", transport, &id];
        let mut terminal = Terminal::start(&node, &[&head[..], &["sh", "-c", script]].concat());
        node.until("ready", || terminal.shows("now ready")).await;
        terminal.types(b"\x03");
        node.until("the signal", || terminal.shows("caught it"))
            .await;
        assert!(terminal.ended(&node).await, "{transport}");
    }
    node.finish().await;
}

#[tokio::test]
async fn the_command_of_a_client_that_is_killed_is_hung_up() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("killed", &image, &["sleep", "1000"]).await;
    let count = || node.pids_of(&id).len();
    let before = count();
    for transport in TRANSPORTS {
        let head = ["exec", "-it", "--transport", transport, &id];
        let script = "echo 'now ready'; exec sleep 777";
        let terminal = Terminal::start(&node, &[&head[..], &["sh", "-c", script]].concat());
        node.until("ready", || terminal.shows("now ready")).await;
        assert_eq!(count(), before + 1, "{transport}");
        drop(terminal);
        node.until("the command is gone", || count() == before)
            .await;
    }
    node.finish().await;
}

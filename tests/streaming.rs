//! Exec, attach and port-forward from end to end: crictl, by both of its transports, against
//! containers of the real runtime.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use cricket_harness::{Node, requests, tools};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// How crictl carries streams.
const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

/// crictl in the node's network, where the streaming server listens.
fn crictl(node: &Node, arguments: &[&str]) -> Command {
    let endpoint = format!("unix://{}", node.daemon.socket().display());
    let config = node.dir().join("crictl.yaml");
    std::fs::write(&config, "").unwrap();
    let mut command = node.net().command(&tools::crictl());
    command
        .arg("--config")
        .arg(&config)
        .args(["--runtime-endpoint", &endpoint])
        .args(["--image-endpoint", &endpoint, "--timeout", "60s"])
        .args(arguments);
    command
}

/// Runs a command to its end with all of `stdin`, written while the output is read.
fn with_stdin(mut command: Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // One that ends before it has read everything is no fault of the writer.
        scope.spawn(move || drop(pipe.write_all(stdin)));
        child.wait_with_output().unwrap()
    })
}

/// Bytes that do not repeat, so that a lost or doubled piece shows.
fn bytes(count: u32) -> Vec<u8> {
    (0..count / 4).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn output_exit_code_and_errors_of_exec_come_back() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("exec", &image, &["sleep", "1000"]).await;
    for transport in TRANSPORTS {
        let exec = |command: &[&str]| {
            let head = ["exec", "--transport", transport, &id];
            tools::output(&mut crictl(&node, &[&head[..], command].concat()))
        };
        let both = exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!(both.stdout, b"out\n", "{transport} {both:?}");
        let error = String::from_utf8_lossy(&both.stderr).into_owned();
        assert!(error.starts_with("err\n"), "{transport} {error}");
        assert!(error.contains("exit code 7"), "{transport} {error}");
        assert!(!both.status.success());
        let missing = exec(&["/no/such/command"]);
        assert!(!missing.status.success());
        let error = String::from_utf8_lossy(&missing.stderr).into_owned();
        assert!(error.contains("/no/such/command"), "{transport} {error}");
        let fine = exec(&["true"]);
        assert!(fine.status.success(), "{transport} {fine:?}");
        assert_eq!((fine.stdout, fine.stderr), (vec![], vec![]));
    }
    node.finish().await;
}

#[tokio::test]
async fn much_goes_through_exec_both_ways_and_none_is_lost() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("cat", &image, &["sleep", "1000"]).await;
    let sent = bytes(20_000_000);
    for transport in TRANSPORTS {
        let cat = crictl(&node, &["exec", "-i", "--transport", transport, &id, "cat"]);
        // `cat` ends because the end of its input arrives.
        let output = with_stdin(cat, &sent);
        assert!(output.status.success(), "{transport} {:?}", output.status);
        assert!(output.stdout == sent, "{transport} {}", output.stdout.len());
        let count = crictl(
            &node,
            &["exec", "-i", "--transport", transport, &id, "wc", "-c"],
        );
        let output = with_stdin(count, &sent);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "20000000");
    }
    node.finish().await;
}

#[tokio::test]
async fn many_sessions_at_the_same_time_do_not_mix() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("many", &image, &["sleep", "1000"]).await;
    let sent = bytes(400_000);
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..8_usize)
            .map(|number| {
                let (node, id, sent) = (&node, &id, &sent[number..]);
                scope.spawn(move || {
                    let transport = TRANSPORTS[number % 2];
                    let head = ["exec", "-i", "--transport", transport, id, "cat"];
                    let output = with_stdin(crictl(node, &head), sent);
                    assert!(output.stdout == sent, "{number} {output:?}");
                })
            })
            .collect();
        sessions
            .into_iter()
            .for_each(|session| session.join().unwrap());
    });
    node.finish().await;
}

/// A terminal on which crictl runs, made by `script`.
fn on_terminal(node: &Node, arguments: &[&str]) -> Command {
    let inner = crictl(node, arguments);
    let words: Vec<_> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut command = Command::new(tools::need("script"));
    let line = format!("stty rows 33 cols 77; {}", words.join(" "));
    command.args(["-q", "-e", "-c", &line, "/dev/null"]);
    command
}

#[tokio::test]
async fn a_terminal_has_the_size_of_the_clients_and_hears_what_is_typed() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("tty", &image, &["sleep", "1000"]).await;
    for transport in TRANSPORTS {
        let shell = "read word; stty size; echo heard $word; tty; exit 3";
        let arguments = [
            "exec",
            "-it",
            "--transport",
            transport,
            &id,
            "sh",
            "-c",
            shell,
        ];
        let output = with_stdin(on_terminal(&node, &arguments), b"cricket\n");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("33 77"), "{transport} {text}");
        assert!(text.contains("heard cricket"), "{transport} {text}");
        assert!(text.contains("/dev/pts/"), "{transport} {text}");
        assert!(text.contains("exit code 3"), "{transport} {text}");
    }
    node.finish().await;
}

#[tokio::test]
async fn attach_joins_the_containers_own_streams() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    for transport in TRANSPORTS {
        let pod_config = node.pod_config(&format!("attach-{transport}"));
        let pod = node.cri.run_pod(&pod_config).await.unwrap();
        let mut config = requests::container("main", &image, &["sh", "-c", "cat; echo end"]);
        config.stdin = true;
        config.stdin_once = true;
        let id = node.run_in(&pod, &pod_config, &config).await;
        let attach = crictl(&node, &["attach", "-i", "--transport", transport, &id]);
        let sent = bytes(1_000_000);
        let output = with_stdin(attach, &sent);
        assert!(output.status.success(), "{transport} {output:?}");
        let (echo, end) = output.stdout.split_at(sent.len());
        assert!(echo == sent, "{transport}");
        assert_eq!(end, b"end\n", "{transport}");
        node.cri.exited(&id).await;
    }
    node.finish().await;
}

/// crictl while it forwards a port, which it says.
struct Forward {
    child: Child,
    port: u16,
    /// Kept open: crictl tells of each connection, and would end of a pipe that nobody reads.
    _output: BufReader<ChildStdout>,
}

impl Forward {
    fn start(node: &Node, transport: &str, pod: &str, port: u16) -> Forward {
        let ports = format!(":{port}");
        let arguments = ["port-forward", "--transport", transport, pod, &ports];
        let mut child = crictl(node, &arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // "Forwarding from 127.0.0.1:34567 -> 80"
        output.read_line(&mut line).unwrap();
        let local = line.split(" -> ").next().unwrap().rsplit(':').next();
        let port = local.unwrap().parse();
        let port = port.unwrap_or_else(|error| panic!("{error}: {line}"));
        Forward {
            child,
            port,
            _output: output,
        }
    }

    /// What a server behind the forwarded port answers to `sent` and its end.
    fn ask(&self, node: &Node, sent: &[u8]) -> Vec<u8> {
        let address: SocketAddr = ([127, 0, 0, 1], self.port).into();
        let mut stream = node.net().connect(address).unwrap();
        let mut answer = Vec::new();
        std::thread::scope(|scope| {
            let mut writing = stream.try_clone().unwrap();
            scope.spawn(move || {
                drop(writing.write_all(sent));
                drop(writing.shutdown(std::net::Shutdown::Write));
            });
            drop(stream.read_to_end(&mut answer));
        });
        answer
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Listens on a port of the pod and answers each connection with what it is sent.
const SERVER: [&str; 3] = ["sh", "-c", "exec nc -ll -p 8081 -e cat"];

#[tokio::test]
async fn port_forward_reaches_servers_in_the_pod_and_survives_a_port_that_nobody_has() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (pod, id, _) = node.run("forward", &image, &SERVER).await;
    let mut host = node.pod_config("host");
    let linux = host.linux.get_or_insert_default();
    let security = linux.security_context.get_or_insert_default();
    let namespaces = security.namespace_options.get_or_insert_default();
    namespaces.network = cricket_harness::cri::NamespaceMode::Node.into();
    let host_pod = node.cri.run_pod(&host).await.unwrap();
    let server = requests::container("main", &image, &["nc", "-ll", "-p", "8082", "-e", "cat"]);
    let host_id = node.run_in(&host_pod, &host, &server).await;
    for (id, port) in [(&id, 8081), (&host_id, 8082)] {
        let listens = format!("netstat -ln | grep -q :{port}");
        let script = format!("until {listens}; do usleep 10000; done");
        let waited = node.cri.exec(id, &["sh", "-c", &script], 20).await;
        assert_eq!(waited.unwrap().exit_code, 0);
    }
    let sent = bytes(3_000_000);
    for transport in TRANSPORTS {
        for (pod, port) in [(&pod, 8081), (&host_pod, 8082)] {
            let forward = Forward::start(&node, transport, pod, port);
            let answer = forward.ask(&node, &sent);
            assert!(answer == sent, "{transport} {port} {}", answer.len());
            assert_eq!(forward.ask(&node, b"again"), b"again", "{transport} {port}");
        }
        let nobody = Forward::start(&node, transport, &pod, 9);
        assert_eq!(nobody.ask(&node, b"hello"), b"", "{transport}");
    }
    node.finish().await;
}

//! Exec, attach and port-forward from end to end: crictl, by both of its transports, against
//! containers of the real runtime.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use cricket_harness::cri::AttachRequest;
use cricket_harness::{Node, certificate, requests, tools};
use tonic::Code;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// How crictl carries streams.
const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

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
            tools::output(&mut node.crictl(&[&head[..], command].concat()))
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
        let cat = node.crictl(&["exec", "-i", "--transport", transport, &id, "cat"]);
        // `cat` ends because the end of its input arrives.
        let output = with_stdin(cat, &sent);
        assert!(output.status.success(), "{transport} {:?}", output.status);
        assert!(output.stdout == sent, "{transport} {}", output.stdout.len());
        let count = node.crictl(&["exec", "-i", "--transport", transport, &id, "wc", "-c"]);
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
                    let output = with_stdin(node.crictl(&head), sent);
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
        let attach = node.crictl(&["attach", "-i", "--transport", transport, &id]);
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

/// crictl while it forwards ports, whose local ones it says.
struct Forward {
    child: Child,
    ports: Vec<u16>,
    /// Kept open: crictl tells of each connection, and would end of a pipe that nobody reads.
    _output: BufReader<ChildStdout>,
}

impl Forward {
    fn start(node: &Node, transport: &str, pod: &str, ports: &[u16]) -> Forward {
        let wanted: Vec<_> = ports.iter().map(|port| format!(":{port}")).collect();
        let mut arguments = vec!["port-forward", "--transport", transport, pod];
        arguments.extend(wanted.iter().map(String::as_str));
        let mut command = node.crictl(&arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut local = Vec::new();
        while local.len() < ports.len() {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            // "Forwarding from 127.0.0.1:34567 -> 80", and the same of [::1].
            let Some(rest) = line.strip_prefix("Forwarding from 127.0.0.1:") else {
                assert!(line.contains("[::1]"), "{line:?}");
                continue;
            };
            local.push(rest.split(' ').next().unwrap().parse().unwrap());
        }
        Forward {
            child,
            ports: local,
            _output: output,
        }
    }

    fn connect(&self, node: &Node, index: usize) -> TcpStream {
        let address: SocketAddr = ([127, 0, 0, 1], self.ports[index]).into();
        node.net().connect(address).unwrap()
    }

    /// What a server behind the first port answers to `sent` and its end.
    fn ask(&self, node: &Node, sent: &[u8]) -> Vec<u8> {
        let mut stream = self.connect(node, 0);
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

/// Waits until a container listens on a port.
async fn listens(node: &Node, id: &str, port: u16) {
    let script = format!("until netstat -ln | grep -q :{port}; do usleep 10000; done");
    let waited = node.cri.exec(id, &["sh", "-c", &script], 20).await;
    assert_eq!(waited.unwrap().exit_code, 0);
}

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
        listens(&node, id, port).await;
    }
    let sent = bytes(3_000_000);
    for transport in TRANSPORTS {
        for (pod, port) in [(&pod, 8081), (&host_pod, 8082)] {
            let forward = Forward::start(&node, transport, pod, &[port]);
            let answer = forward.ask(&node, &sent);
            assert!(answer == sent, "{transport} {port} {}", answer.len());
            assert_eq!(forward.ask(&node, b"again"), b"again", "{transport} {port}");
        }
        let nobody = Forward::start(&node, transport, &pod, &[9]);
        assert_eq!(nobody.ask(&node, b"hello"), b"", "{transport}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_forwarded_port_that_takes_nothing_does_not_end_the_others() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let servers = "nc -ll -p 8082 -e sleep 1000 & exec nc -ll -p 8081 -e cat";
    let (pod, id, _) = node.run("stalls", &image, &["sh", "-c", servers]).await;
    for port in [8081, 8082] {
        listens(&node, &id, port).await;
    }
    for transport in TRANSPORTS {
        let forward = Forward::start(&node, transport, &pod, &[8081, 8082]);
        let mut good = forward.connect(&node, 0);
        let mut answer = [0; 5];
        good.write_all(b"first").unwrap();
        good.read_exact(&mut answer).unwrap();
        let mut bad = forward.connect(&node, 1);
        std::thread::scope(|scope| {
            // More than fits anywhere, so that everything stands still until it is cut off.
            scope.spawn(move || drop(bad.write_all(&vec![0; 128 << 20])));
            let patience = Some(std::time::Duration::from_secs(120));
            good.set_read_timeout(patience).unwrap();
            for _ in 0..100 {
                good.write_all(b"again").unwrap();
                good.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"again", "{transport}");
            }
        });
        assert_eq!(forward.ask(&node, b"later"), b"later", "{transport}");
    }
    node.finish().await;
}

#[tokio::test]
async fn a_client_too_many_is_refused_before_it_gets_a_url() {
    let mut node = Node::start(CRICKET).await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("full", &image, &["sleep", "1000"]).await;
    let mut attached = Vec::new();
    let request = AttachRequest {
        container_id: id.clone(),
        stdout: true,
        ..Default::default()
    };
    let refused = loop {
        match node.cri.attach_url(request.clone()).await {
            Ok(_) => {
                assert!(attached.len() < 1000, "never full");
                let mut client = node.crictl(&["attach", &id]);
                // Those that come too late say so.
                attached.push(client.stderr(Stdio::null()).spawn().unwrap());
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains(&id), "{refused:?}");
    for mut client in attached {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    let free = async {
        while node.cri.attach_url(request.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, free).await.unwrap();
    node.finish().await;
}

#[tokio::test]
async fn both_transports_go_over_tls() {
    let scratch = tempfile::tempdir().unwrap();
    let server = certificate::signed(&scratch.path().join("server"));
    let client = certificate::client(&scratch.path().join("client"));
    let mut node = Node::start(CRICKET).await;
    let options = format!(
        "[crio.api]\nstream_enable_tls = true\nstream_tls_cert = {:?}\nstream_tls_key = {:?}\n",
        server.certificate, server.key
    );
    std::fs::write(node.dir().join("crio.conf.d/10-tls.conf"), options).unwrap();
    assert!(node.daemon.stop().await.success());
    node.daemon.launch();
    node.reconnect().await;
    let image = node.busybox().await;
    let (_, id, _) = node.run("tls", &image, &["sleep", "1000"]).await;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let sent = bytes(3_000_000);
    for transport in TRANSPORTS {
        let exec = |authority: &Path| {
            let mut arguments = ["exec", "-i", "--transport", transport]
                .map(str::to_owned)
                .to_vec();
            // crictl sends a certificate of its own or trusts everyone.
            for (flag, file) in [
                ("--tls-ca", authority),
                ("--tls-cert", &client.certificate),
                ("--tls-key", &client.key),
            ] {
                arguments.extend([flag.to_owned(), path(file)]);
            }
            arguments.extend(["--tls-sni", "127.0.0.1", &id, "cat"].map(str::to_owned));
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            with_stdin(node.crictl(&arguments), &sent)
        };
        let output = exec(&server.authority);
        assert!(output.status.success(), "{transport} {:?}", output.stderr);
        assert!(output.stdout == sent, "{transport} {}", output.stdout.len());
        let stranger = exec(&client.authority);
        let error = String::from_utf8_lossy(&stranger.stderr).into_owned();
        assert!(error.contains("unknown authority"), "{transport} {error}");
    }
    node.finish().await;
}

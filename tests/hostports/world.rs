//! A node with a client outside, servers in pods, and ways to ask them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cricket_harness::cri::*;
use cricket_harness::net::Net;
use cricket_harness::{Node, tools};
use nix::sched::{CloneFlags, setns};

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");
/// How long an answer that does not come is waited for.
pub const SILENCE: Duration = Duration::from_millis(300);
/// How long an answer that must come is waited for; a port that nobody has is refused at once.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The node's addresses on its outer interface, and its client's.
pub const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// A node whose pods have addresses of both families.
pub async fn dual_stack(change: impl FnOnce(&mut cricket_harness::daemon::Options)) -> Node {
    Node::start_with(CRICKET, |options| {
        let text = options.cni.take().unwrap().1;
        let text = text.replace(
            r#"[{"subnet": "10.88.77.0/24"}]"#,
            r#"[{"subnet": "10.88.77.0/24"}], [{"subnet": "fd00:88::/64"}]"#,
        );
        let text = text.replace(
            r#"[{"dst": "0.0.0.0/0"}]"#,
            r#"[{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]"#,
        );
        // Without it a bridge sends nothing back to where it came from.
        let text = text.replace(
            r#""isGateway": true"#,
            r#""isGateway": true, "hairpinMode": true"#,
        );
        assert!(
            text.contains("fd00:88") && text.contains("hairpin"),
            "{text}"
        );
        options.cni = Some(("10-bridge.conflist".into(), text));
        change(options);
    })
    .await
}

/// Another machine, connected to the node.
pub struct Client {
    pub net: Net,
}

impl Client {
    pub fn connect(node: &Node) -> Self {
        let net = Net::create(node.dir().join("client-net"));
        let own = net.file().to_string_lossy().into_owned();
        let ip = |net: &Net, words: &str| {
            let mut command = net.command(&tools::need("ip"));
            tools::run(command.args(words.split(' ')));
        };
        // nsenter changes the network alone, so the file of the other namespace is seen.
        let pid = std::process::id();
        let held = File::open(&own).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&held);
        ip(
            node.net(),
            &format!("link add ckt1 type veth peer name ckt1 netns /proc/{pid}/fd/{fd}"),
        );
        for (net, addresses) in [(&**node.net(), NODE), (&net, CLIENT)] {
            ip(net, &format!("addr add {}/24 dev ckt1", addresses[0]));
            ip(
                net,
                &format!("-6 addr add {}/64 dev ckt1 nodad", addresses[1]),
            );
            ip(net, "link set ckt1 up");
        }
        Self { net }
    }
}

/// The node without its second interface, so that the harness finds nothing of ours.
pub async fn finish(node: Node, client: Option<Client>) {
    if let Some(client) = client {
        let mut command = node.net().command(&tools::need("ip"));
        tools::run(command.args(["link", "delete", "ckt1"]));
        drop(client);
    }
    node.finish().await;
}

/// Runs `work` in a network namespace.
pub fn inside<T: Send + 'static>(netns: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(netns).unwrap();
    let thread = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub fn netns_of(node: &Node, pod: &str) -> PathBuf {
    node.dir().join("ns/netns").join(pod)
}

/// Answers `name` to all who ask on a port of a pod, by TCP and UDP, until dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn start(node: &Node, pod: &str, port: u16, name: &'static str) -> Self {
        let (tcp, udp) = inside(&netns_of(node, pod), move || {
            let all = SocketAddr::new("::".parse().unwrap(), port);
            (
                TcpListener::bind(all).unwrap(),
                UdpSocket::bind(all).unwrap(),
            )
        });
        let stop = Arc::new(AtomicBool::new(false));
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((mut stream, from)) = tcp.accept() {
                    let _ = write!(stream, "{name} {}", from.ip().to_canonical());
                }
                let mut question = [0; 64];
                if let Ok((_, from)) = udp.recv_from(&mut question) {
                    let _ = udp.send_to(
                        format!("{name} {}", from.ip().to_canonical()).as_bytes(),
                        from,
                    );
                }
            }
        });
        Self { stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a server says by TCP; `None`: nobody is there.
pub fn tcp(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The same of a server that must be there: an IPv6 address of the bridge needs a second until it is
/// known to be nobody else's.
pub fn tcp_at_last(address: SocketAddr) -> Option<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = tcp(address);
        if answer.is_some() || Instant::now() > end {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a server says by UDP, which is asked again and again.
pub fn udp_by(socket: &UdpSocket, address: SocketAddr, patience: Duration) -> Option<String> {
    // Answers to earlier questions that were asked twice.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 64]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let end = Instant::now() + patience;
    loop {
        // It fails when an earlier question was refused.
        let _ = socket.send_to(b"?", address);
        let mut answer = [0; 64];
        if let Ok((length, from)) = socket.recv_from(&mut answer) {
            assert_eq!(from, address, "the answer comes from where it was asked");
            return Some(String::from_utf8_lossy(&answer[..length]).into_owned());
        }
        if Instant::now() > end {
            return None;
        }
    }
}

pub fn udp(address: SocketAddr) -> Option<String> {
    udp_by(&udp_for(address), address, PATIENCE)
}

fn udp_for(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    UdpSocket::bind(any).unwrap()
}

/// A UDP client in a network namespace, which keeps its port, and whom it asks.
pub fn client_of(netns: &Path, address: SocketAddr) -> (UdpSocket, SocketAddr) {
    (inside(netns, move || udp_for(address)), address)
}

pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

pub fn mapping(host_port: u16, protocol: Protocol) -> PortMapping {
    PortMapping {
        protocol: protocol.into(),
        host_port: host_port.into(),
        container_port: 80,
        host_ip: String::new(),
    }
}

pub async fn pod(node: &Node, name: &str, mappings: Vec<PortMapping>) -> String {
    let mut config = node.pod_config(name);
    config.port_mappings = mappings;
    node.cri.run_pod(&config).await.unwrap()
}

pub fn nft(node: &Node, words: &str) -> String {
    let mut command = node.net().command(&tools::need("nft"));
    tools::run(command.args(words.split(' ')))
}

/// Rules of others, which make the kernel remember connections.
pub fn track_connections(node: &Node) {
    for line in [
        "add table inet others",
        "add chain inet others tracking { type filter hook prerouting priority 0 ; }",
        "add rule inet others tracking ct state established accept",
    ] {
        nft(node, line);
    }
}

/// The UDP connections that an address answers, as the kernel remembers them.
pub fn remembered(node: &Node, ip: &str) -> String {
    let mut command = node.net().command(&tools::need("conntrack"));
    let family = if ip.contains(':') { "ipv6" } else { "ipv4" };
    let list = ["-L", "-p", "udp", "-f", family, "-o", "id", "-r", ip];
    tools::run(command.args(list))
}

/// The daemon's table.
pub fn own_table(node: &Node) -> Option<String> {
    let tables = nft(node, "list tables");
    let mut names = tables
        .lines()
        .filter_map(|line| line.strip_prefix("table inet cricket"));
    names.next().map(|rest| format!("cricket{rest}"))
}

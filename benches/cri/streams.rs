//! Streaming exec in one stream: how fast a command's output comes to a client on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use cricket_harness::cri::ExecRequest;
use cricket_harness::spdy;

use crate::table::Table;
use crate::target::Target;

/// Bytes that the command writes, and how often it is run.
const MEBIBYTES: u64 = 4096;
const ROUNDS: usize = 5;

/// The protocols, and the head with which a client asks for each.
const PROTOCOLS: [(&str, &str); 2] = [
    (
        "SPDY",
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n",
    ),
    (
        "WebSocket",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
    ),
];

/// All protocols, in one container. The client only counts: what is measured is the server.
pub async fn measure(target: &Target, image: &str, table: &mut Table) {
    let (pod, container) = target.run("stream", image).await;
    for (name, upgrade) in PROTOCOLS {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let url = target.cri.exec_url(request(&container)).await.unwrap().url;
            let net = target.net();
            let read = tokio::task::block_in_place(|| net.enter(|| receive(&url, upgrade)));
            rates.push(read);
        }
        rates.sort_by(f64::total_cmp);
        let [low, middle, high] = [0, ROUNDS / 2, ROUNDS - 1].map(|at| rates[at]);
        table.add(
            &format!("exec stream by {name}"),
            format!("{middle:.0} MB/s ({low:.0} to {high:.0})"),
        );
    }
    target.end(&pod, &container).await;
}

fn request(container: &str) -> ExecRequest {
    let count = format!("count={MEBIBYTES}");
    ExecRequest {
        container_id: container.into(),
        cmd: ["dd", "if=/dev/zero", "bs=1M", &count]
            .map(String::from)
            .into(),
        stdout: true,
        ..ExecRequest::default()
    }
}

/// MB/s from the first byte of the output on.
fn receive(url: &str, upgrade: &str) -> f64 {
    let (address, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("the daemon's URL is http://ADDRESS/PATH");
    let address: SocketAddr = address.parse().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n");
    (&stream).write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::with_capacity(1 << 20, &stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(
            reader.read_line(&mut line).unwrap(),
            0,
            "no answer to the upgrade"
        );
    }
    if upgrade.contains("SPDY") {
        let mut headers = spdy::HeaderWriter::default();
        for (number, kind) in [(1, "error"), (3, "stdout")] {
            let block = headers.compress(&spdy::header_list(&[("streamtype", kind)]));
            (&stream)
                .write_all(&spdy::syn_stream(number, 0, &block))
                .unwrap();
        }
    }
    let mut piece = vec![0; 1 << 20];
    let mut bytes = reader.read(&mut piece).unwrap() as u64;
    let begun = Instant::now();
    while bytes < MEBIBYTES << 20 {
        let count = reader.read(&mut piece).unwrap() as u64;
        assert_ne!(count, 0, "the stream ended after {bytes} bytes");
        bytes += count;
    }
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

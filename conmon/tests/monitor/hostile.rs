//! Clients that misbehave: the monitor answers, and goes on.

use std::io::pipe;
use std::os::fd::AsFd;

use conmon::{Create, List, MAX_CLIENTS, MAX_PACKET, Phase, Reply, Request, Step, VERSION};

use crate::harness::{Connection, Container, Wanted, describe};

fn refused(connection: &Connection) -> String {
    let (packet, _) = connection.receive();
    let message = match Reply::decode(&packet).unwrap() {
        Reply::Failed {
            step: Step::Request,
            message,
            ..
        } => String::from_utf8(message.to_vec()).unwrap(),
        other => panic!("{}", describe(&other)),
    };
    assert!(connection.receive().0.is_empty(), "the connection ends");
    message
}

fn still_serves(container: &Container) {
    let (packet, _) = container.call(&Request::Watch);
    match Reply::decode(&packet).unwrap() {
        Reply::Status(status) => assert_eq!(status.phase, Phase::Running),
        other => panic!("{}", describe(&other)),
    }
}

#[test]
fn bad_packets_are_refused_with_the_reason() {
    let container = Container::run(&Wanted::script("exec sleep 1000"));
    let garbage: Vec<u8> = (0..65_536_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    for (packet, reason) in [
        (garbage.as_slice(), "version"),
        (&[VERSION], "ends within"),
        (
            &[VERSION, 4, 255, 255, 255, 255],
            "exec arguments has an impossible value",
        ),
        (&[VERSION, 4, 1, 0, 0, 0, 255, 255, 255, 255], "ends within"),
        (&[VERSION, 99], "unknown kind 99"),
        (&[VERSION + 1, 2], "version 2, this end speaks 1"),
        (&[VERSION, 2, 0], "after its last field"),
        (&vec![VERSION; MAX_PACKET + 1], "too long"),
    ] {
        let connection = container.connect();
        connection.send_raw(packet, &[]);
        let message = refused(&connection);
        assert!(message.contains(reason), "{message}");
        still_serves(&container);
    }
}

#[test]
fn requests_out_of_order_are_refused() {
    let container = Container::run(&Wanted::script("exec sleep 1000"));
    let create = Request::Create(Create {
        runtime: b"/bin/false",
        global_args: List::EMPTY,
        container_id: b"another",
        create_args: List::EMPTY,
        log_path: b"",
        terminal: false,
        stdin: false,
        stdin_once: false,
    });
    for request in [create, Request::StdinData(b"x"), Request::CloseStdin] {
        let connection = container.connect();
        connection.send(&request);
        refused(&connection);
    }
    let watcher = container.connect();
    watcher.send(&Request::Watch);
    watcher.status();
    watcher.send(&Request::Watch);
    refused(&watcher);
    still_serves(&container);
}

#[test]
fn a_first_packet_that_is_no_create_ends_the_monitor() {
    let mut container = Container::prepare(&Wanted::script("exit 0"));
    container.daemon.send(&Request::Start);
    refused(&container.daemon);
    assert_eq!(container.monitor_exit_code(), Some(0));
    assert!(container.leftovers().is_empty());
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let container = Container::run(&Wanted::script("exec sleep 1000"));
    for count in [1, 3, 4, 100] {
        let (mut end, other_end) = pipe().unwrap();
        let connection = container.connect();
        let mut packet = [0; 8];
        let length = Request::Watch.encode(&mut packet).unwrap();
        connection.send_raw(&packet[..length], &vec![other_end.as_fd(); count]);
        drop(other_end);
        connection.receive();
        // The end comes only if the monitor holds none of them.
        assert_eq!(std::io::Read::read(&mut end, &mut [0]).unwrap(), 0);
    }
    still_serves(&container);
}

#[test]
fn too_many_connections_are_told_so_and_cost_the_others_nothing() {
    let container = Container::run(&Wanted::script("exec sleep 1000"));
    // The daemon's own is one of them.
    let mut open: Vec<_> = (1..MAX_CLIENTS).map(|_| container.connect()).collect();
    for connection in &open {
        connection.send(&Request::Watch);
        connection.status();
    }
    let refused = container.connect();
    assert_eq!(Reply::decode(&refused.receive().0), Ok(Reply::Busy));
    assert!(refused.receive().0.is_empty());
    open.pop();
    // The place is free as soon as the monitor has seen the end.
    loop {
        let connection = container.connect();
        connection.send_raw(&[VERSION, 2], &[]);
        let (packet, _) = connection.receive();
        match Reply::decode(&packet).unwrap() {
            Reply::Status(_) => break,
            Reply::Busy => {}
            other => panic!("{}", describe(&other)),
        }
    }
    container.runc(&["kill", &container.id, "KILL"]);
    for connection in &open {
        assert_eq!(connection.status().phase, Phase::Exited);
    }
}

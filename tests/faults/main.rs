//! The daemon kills itself at every fault point (`src/sys/fault/points.rs`) of every operation, and is
//! started again: each pod, container and image is complete or gone without a trace, the call can be
//! made again under the same name, and what ran beside it has noticed nothing.
//!
//! Short in `make test` (each point once, and a second kill after some), long in `make faults`: later
//! passes of a point too, and second kills at more points while the first is being recovered from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod any_moment;
mod operations;
#[path = "../../src/sys/fault/points.rs"]
mod points;
mod slow_runtime;
mod world;

use cricket_harness::faults::{Row, tries};
use operations::Call;
use points::{POINTS, Point};
use world::World;

const CRICKET: &str = env!("CARGO_BIN_EXE_cricket");

/// Points that a restart passes when it undoes something: where the second kill strikes.
const RECOVERY: &[&str] = &[
    "release.deleted",
    "release.unmounted",
    "release.cgroups-removed",
    "remove.root-gone",
    "pause.deleted",
    "pause.gone",
    "cni.plugin-deleted",
    "cni.deleted",
    "cni.forgotten",
    "pod-stop.files-gone",
    "pod-stop.unpinned",
    "pod-stop.cgroups-gone",
];

/// How many of them strike after each first kill, if as many are passed.
const SECONDS: usize = 4;

/// Kills at each point of `operation`, in each of its passes as far as asked for.
async fn at_each_point_of(operation: &str) {
    let mut row = Row::new(&format!("kill -9 at each point of {operation}"));
    let mut world = World::start().await;
    for point in POINTS.iter().filter(|point| point.operation == operation) {
        for pass in 1..=tries(1, 3) {
            if !at(&mut world, *point, pass, &mut row).await {
                break;
            }
        }
    }
    row.lost(world.bystander_is_well(true).await);
    world.finish().await;
    row.end();
}

/// Kills when a call comes to the point for the `pass`th time; `false`: it does not come there so often.
async fn at(world: &mut World, point: Point, pass: usize, row: &mut Row) -> bool {
    let call = world.prepare(point).await;
    let fault = format!("{}:{pass}", point.name);
    if !world.killed_at(&call, &fault, pass > 1).await {
        row.lost(match pass {
            1 => Err(format!("{point:?} was never passed")),
            _ => Ok(()),
        });
        world.discard(call).await;
        return false;
    }
    row.tried();
    conclude(world, call, row).await;
    true
}

/// Starts the daemon again, and asks whether everything is as it has to be.
async fn conclude(world: &mut World, call: Call, row: &mut Row) {
    let what = call.what();
    world.revive().await;
    let named = |outcome: Result<(), String>| outcome.map_err(|lost| format!("{what}: {lost}"));
    row.lost(named(world.bystander_is_well(false).await));
    row.lost(named(world.retried(&call).await));
    world.discard(call).await;
    let left = world.left_behind().await.into_iter();
    row.left(left.map(|left| format!("{what}: {left}")).collect());
}

macro_rules! each_point {
    ($($name:ident: $operation:literal,)*) => {
        const OPERATIONS: &[&str] = &[$($operation),*];

        $(#[tokio::test]
        async fn $name() {
            at_each_point_of($operation).await;
        })*
    };
}

each_point! {
    run_pod_sandbox: "RunPodSandbox",
    create_container: "CreateContainer",
    start_container: "StartContainer",
    update_container_resources: "UpdateContainerResources",
    reopen_container_log: "ReopenContainerLog",
    stop_container: "StopContainer",
    remove_container: "RemoveContainer",
    stop_pod_sandbox: "StopPodSandbox",
    remove_pod_sandbox: "RemovePodSandbox",
    pull_image: "PullImage",
    remove_image: "RemoveImage",
}

#[test]
fn every_operation_of_the_list_is_tested() {
    for point in POINTS {
        assert!(OPERATIONS.contains(&point.operation), "{point:?}");
    }
}

#[tokio::test]
async fn pods_with_a_user_namespace() {
    let mut row = Row::new("kill -9 at a point of a pod with a user namespace");
    let mut world = World::with_user_namespaces().await;
    let of_pods = POINTS
        .iter()
        .filter(|point| !point.operation.ends_with("Image"));
    for point in of_pods.step_by(tries(8, 1)) {
        at(&mut world, *point, 1, &mut row).await;
    }
    row.lost(world.bystander_is_well(true).await);
    world.finish().await;
    row.end();
}

#[tokio::test]
async fn a_second_kill_while_the_first_is_recovered_from() {
    let mut row = Row::new("kill -9 again while the first kill is recovered from");
    let mut world = World::start().await;
    // What the first kill leaves decides which steps there are to undo.
    let half_made = |operation| ["RunPodSandbox", "CreateContainer"].contains(&operation);
    let firsts = POINTS.iter().filter(|point| half_made(point.operation));
    // In short a late one of each operation, which leaves the most to undo.
    let firsts = firsts.enumerate().skip(tries(14, 0)).step_by(tries(14, 1));
    for (number, point) in firsts {
        let mut killed_twice = 0;
        for offset in 0..RECOVERY.len() {
            let second = RECOVERY[(number + offset) % RECOVERY.len()];
            let call = world.prepare(*point).await;
            assert!(world.killed_at(&call, point.name, false).await, "{point:?}");
            if world.killed_in_recovery(second).await {
                row.tried();
                killed_twice += 1;
            }
            conclude(&mut world, call, &mut row).await;
            if killed_twice == tries(1, SECONDS) {
                break;
            }
        }
    }
    row.lost(world.bystander_is_well(true).await);
    world.finish().await;
    row.end();
}

//! The first process of a pod that shares its PID namespace: it holds the namespace, takes the
//! orphans of its containers, and ends on SIGTERM or SIGINT. Nothing else.
#![no_std]
#![no_main]

use nostd_sys::{Arguments, Signal, block, reap, wait_for_signal};

nostd_sys::entry!(run);

const AWAITED: [Signal; 3] = [Signal::Terminate, Signal::Interrupt, Signal::Child];

fn run(_: &Arguments) -> i32 {
    // Blocked, not handled: PID 1 of a namespace is spared every signal for which it has neither a
    // handler nor a block, and a blocked one stays pending until it is waited for.
    block(&AWAITED);
    loop {
        match wait_for_signal(&AWAITED) {
            Some(Signal::Terminate | Signal::Interrupt) => return 0,
            _ => while reap().is_some() {},
        }
    }
}

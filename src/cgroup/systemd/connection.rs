//! The task that has the connection: sends calls, brings each answer and each job's end to the one
//! who waits for it, ends when nobody has called for a while.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::call::{Call, Fault, Order};
use super::link::Link;
use super::message::{self, Body, HEAD, Incoming, MAX_MESSAGE};
use super::{BUS, MANAGER, greeting};

/// How long connecting, or handing over a message, may take.
const SOON: Duration = Duration::from_secs(5);
/// Which signals a bus is to pass on.
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',\
     interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
/// systemd's answer to a second `Subscribe`; no fault.
const SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";

/// Connects and serves orders until the connection breaks or nobody needs it.
pub(super) async fn serve(link: Arc<Link>, mut orders: mpsc::Receiver<Order>) {
    let connected = timeout(SOON, greeting::connect(&link.endpoints)).await;
    let late = || Fault::Lost(format!("no connection after {SOON:?}"));
    let mut desk = Desk::default();
    let ended = match connected.unwrap_or_else(|_| Err(late())) {
        Ok((stream, is_bus)) => desk.work(stream, is_bus, &link, &mut orders).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = ended {
        link.break_off();
        orders.close();
        while let Some(order) = orders.recv().await {
            // Whoever has given up needs no answer.
            let _ = order.told.send(Err(fault.clone()));
        }
        desk.give_up(&fault);
    }
}

/// Somebody who waits for an answer or a job's end.
#[derive(Debug)]
struct Waiting {
    told: oneshot::Sender<Result<(), Fault>>,
    job: Option<Arc<OnceLock<String>>>,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Desk {
    serial: u32,
    /// By the call's serial; `None`: a call of the connection's own, which must not fail.
    calls: HashMap<u32, Option<Waiting>>,
    /// By the job's object.
    jobs: HashMap<String, Waiting>,
    /// systemd's name on the bus: what others say of jobs does not count.
    systemd: Option<String>,
    /// What has come of messages that are not whole yet.
    received: Vec<u8>,
}

impl Desk {
    async fn work(
        &mut self,
        mut stream: UnixStream,
        is_bus: bool,
        link: &Link,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), Fault> {
        self.introduce(&mut stream, is_bus).await?;
        let mut used = Instant::now();
        loop {
            tokio::select! {
                Some(order) = orders.recv() => {
                    // Whoever has given up may have reaped the process that it is about: the pid may
                    // be another's.
                    if order.told.is_closed() {
                        continue;
                    }
                    used = Instant::now();
                    let job = order.call.is_job.then_some(order.job);
                    let waiting = Waiting { told: order.told, job };
                    self.send(&mut stream, &order.call, Some(waiting)).await?;
                }
                read = stream.read_buf(&mut self.received) => match read {
                    Ok(1..) => self.take_in()?,
                    Ok(0) => return Err(Fault::Lost("the other side has hung up".to_owned())),
                    Err(error) => return Err(Fault::Lost(format!("read from it: {error}"))),
                },
                () = tokio::time::sleep_until(used + link.idle) => {
                    used = Instant::now();
                    self.forget_the_gone();
                    if self.is_done() && link.retire(orders) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Says hello on a bus, and asks to be told of jobs. Nothing waits for the answers, which come
    /// before those of what is asked next.
    async fn introduce(&mut self, stream: &mut UnixStream, is_bus: bool) -> Result<(), Fault> {
        let call = |target, member, body| Call {
            target,
            member,
            body,
            is_job: false,
        };
        if is_bus {
            self.send(stream, &call(BUS, "Hello", Body::default()), None)
                .await?;
            let body = Body::default().text(MATCH);
            self.send(stream, &call(BUS, "AddMatch", body), None)
                .await?;
        }
        self.send(stream, &call(MANAGER, "Subscribe", Body::default()), None)
            .await
    }

    async fn send(
        &mut self,
        stream: &mut UnixStream,
        call: &Call,
        waiting: Option<Waiting>,
    ) -> Result<(), Fault> {
        self.forget_the_gone();
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let bytes = message::call(self.serial, call.target, call.member, &call.body);
        // Before it is sent: when that fails, the caller is told with all others.
        self.calls.insert(self.serial, waiting);
        match timeout(SOON, stream.write_all(&bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::Lost(format!("write to it: {error}"))),
            Err(_) => Err(Fault::Lost(format!("it has taken nothing for {SOON:?}"))),
        }
    }

    /// Takes the whole messages out of what has come.
    fn take_in(&mut self) -> Result<(), Fault> {
        let wrong = |problem: &str| Fault::Lost(format!("it has sent {problem}"));
        let mut at = 0;
        while let Some(head) = self.received[at..].first_chunk::<HEAD>() {
            let end = at + message::length(*head).map_err(wrong)?;
            let Some(message) = self.received.get(at..end) else {
                break;
            };
            let incoming = message::parse(message).map_err(wrong)?;
            at = end;
            self.hand_out(incoming)?;
        }
        self.received.drain(..at);
        // A burst of signals must not be kept for ever.
        self.received.shrink_to(MAX_MESSAGE.min(4096));
        Ok(())
    }

    fn hand_out(&mut self, incoming: Incoming) -> Result<(), Fault> {
        match incoming {
            Incoming::Reply {
                serial,
                sender,
                object,
            } => {
                let Some(Some(waiting)) = self.calls.remove(&serial) else {
                    return Ok(());
                };
                self.systemd = sender;
                match (&waiting.job, object) {
                    (Some(known), Some(job)) => {
                        // It is told once.
                        let _ = known.set(job.clone());
                        self.jobs.insert(job, waiting);
                    }
                    (Some(_), None) => {
                        let text = "an answer that names no job";
                        waiting.tell(Err(Fault::Lost(format!("it has sent {text}"))));
                    }
                    (None, _) => waiting.tell(Ok(())),
                }
            }
            Incoming::Refusal { serial, name, text } => match self.calls.remove(&serial) {
                Some(Some(waiting)) => waiting.tell(Err(Fault::Refused { name, text })),
                Some(None) if name != SUBSCRIBED => return Err(Fault::Refused { name, text }),
                _ => {}
            },
            Incoming::JobRemoved {
                sender,
                job,
                result,
            } => {
                if sender == self.systemd
                    && let Some(waiting) = self.jobs.remove(&job)
                {
                    waiting.tell(match result.as_str() {
                        "done" => Ok(()),
                        _ => Err(Fault::Job { job, result }),
                    });
                }
            }
            Incoming::Other => {}
        }
        Ok(())
    }

    /// Those who have given up are nobody to wait for.
    fn forget_the_gone(&mut self) {
        let waits = |waiting: &Waiting| !waiting.told.is_closed();
        self.calls
            .retain(|_, waiting| waiting.as_ref().is_none_or(waits));
        self.jobs.retain(|_, waiting| waits(waiting));
    }

    fn is_done(&self) -> bool {
        self.jobs.is_empty() && self.calls.values().all(Option::is_none)
    }

    fn give_up(self, fault: &Fault) {
        let calls = self.calls.into_values().flatten();
        for waiting in calls.chain(self.jobs.into_values()) {
            waiting.tell(Err(fault.clone()));
        }
    }
}

impl Waiting {
    fn tell(self, outcome: Result<(), Fault>) {
        // Whoever has given up needs no answer.
        let _ = self.told.send(outcome);
    }
}

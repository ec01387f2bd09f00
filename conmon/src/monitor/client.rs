//! The connections: accepting, reading and answering.

use conmon::{Reply, Request, Step};
use nostd_sys::{Errno, Fd, MAX_PASSED_FDS, accept, receive, send};

use super::clients::{Attach, CREATOR, Place, Role, places};
use super::failure::Failure;
use super::{Life, Monitor};

/// The descriptors that came with a request.
pub(super) type PassedFds = [Option<Fd>; MAX_PASSED_FDS];

impl Monitor {
    pub(super) fn connection_ready(&mut self) {
        let Some(Ok(socket)) = self.listener.as_ref().map(accept) else {
            return;
        };
        if let Err(socket) = self.clients.add(socket) {
            let mut packet = [0; 8];
            let length = Reply::Busy.encode(&mut packet).unwrap_or_default();
            // A client that does not hear it sees the end of the connection.
            let _ = send(&socket, packet.split_at(length).0, None);
        }
    }

    /// One packet of a client has come, or its end.
    pub(super) fn client_ready(&mut self, index: Place) {
        // Several may be ready in one round, and one may have blocked stdin: the others' bytes wait
        // in their sockets.
        if self.stdio.blocked_stdin().is_some() && self.clients.role(index).is_some_and(Role::feeds)
        {
            return;
        }
        // Taken for the time of the request, which refers to it.
        let packet = core::mem::take(&mut self.buffers.packet);
        let received = self
            .clients
            .socket(index)
            .map(|socket| receive(socket, packet));
        match received {
            None | Some(Err(Errno::EAGAIN)) => {}
            Some(Ok(received)) if received.length > 0 && received.truncated => {
                let why = "packet or its list of descriptors is too long";
                self.fail(index, &Failure::refused(Step::Request, why));
            }
            Some(Ok(received)) if received.length > 0 => {
                let bytes = packet.get(..received.length).unwrap_or_default();
                match Request::decode(bytes) {
                    Ok(request) => self.requested(index, &request, bytes, received.fds),
                    Err(error) => self.fail(index, &Failure::packet(error)),
                }
            }
            Some(Ok(_) | Err(_)) => self.hung_up(index),
        }
        self.buffers.packet = packet;
    }

    fn requested(&mut self, index: Place, request: &Request<'_>, bytes: &[u8], fds: PassedFds) {
        let result = match (self.clients.role(index), request) {
            (Some(Role::Creator), Request::Create(_)) => self.create(index, bytes),
            (Some(Role::Fresh), Request::Watch) => {
                self.clients.set_role(index, Role::Watch);
                self.reply(index, &Reply::Status(self.status()));
                Ok(())
            }
            (Some(Role::Fresh), Request::Start) => self.start(index),
            (Some(Role::Fresh), Request::Exec(exec)) => self.exec(index, exec, fds),
            (Some(Role::Fresh), Request::ReopenLog { path }) => self
                .log
                .reopen(path)
                .map(|()| self.finish_client(index, &Reply::Done)),
            (Some(Role::Fresh), Request::Resize { width, height }) => self
                .resize(*width, *height)
                .map(|()| self.finish_client(index, &Reply::Done)),
            (
                Some(Role::Fresh),
                Request::Attach {
                    stdin,
                    stdout,
                    stderr,
                },
            ) => {
                let (stdin, stdout, stderr) = (*stdin, *stdout, *stderr);
                self.attach(
                    index,
                    Attach {
                        stdin,
                        stdout,
                        stderr,
                    },
                );
                Ok(())
            }
            (Some(Role::Attach(attach)), request) => self.attach_packet(attach, request),
            _ => Err(Failure::refused(
                Step::Request,
                "this connection takes no such request now",
            )),
        };
        if let Err(failure) = result {
            self.fail(index, &failure);
        }
    }

    /// The client has gone.
    fn hung_up(&mut self, index: Place) {
        let role = self.clients.role(index);
        self.clients.remove(index);
        match role {
            Some(Role::Exec(exec)) => self.exec_hung_up(exec),
            Some(Role::Attach(Attach { stdin: true, .. })) => self.stdio.stdin_detached(),
            _ => {}
        }
    }

    /// Answers a client; one that does not take its answers is one that has gone.
    pub(super) fn reply(&mut self, index: Place, reply: &Reply<'_>) {
        self.reply_with(index, reply, None);
    }

    pub(super) fn reply_with(&mut self, index: Place, reply: &Reply<'_>, passed: Option<&Fd>) {
        let Some(socket) = self.clients.socket(index) else {
            return;
        };
        let Ok(length) = reply.encode(self.buffers.reply) else {
            return;
        };
        let packet = self.buffers.reply.get(..length).unwrap_or_default();
        if send(socket, packet, passed).is_err() {
            self.hung_up(index);
        }
    }

    /// Answers a client for the last time.
    pub(super) fn finish_client(&mut self, index: Place, reply: &Reply<'_>) {
        self.reply(index, reply);
        self.hung_up(index);
    }

    /// Answers `Failed` and ends the connection; with the creator's goes the monitor, if there is
    /// no container.
    pub(super) fn fail(&mut self, index: Place, failure: &Failure) {
        self.reply_failed(index, failure);
        // The creator's connection stays while the runtime works: its answer is still to come.
        if !matches!(self.life, Life::Creating { .. } if index == CREATOR) {
            self.hung_up(index);
        }
    }

    /// Tells every watcher how the container is.
    pub(super) fn tell_watchers(&mut self) {
        let status = self.status();
        for index in places() {
            if self.clients.role(index) == Some(Role::Watch) {
                self.reply(index, &Reply::Status(status));
            }
        }
    }
}

//! A session of COMMAND's own: with a terminal, or with none.
//!
//! Isolate becomes two processes. The one that its caller sees stays in the caller's session and relays (relay.rs). The other
//! leads a new session and goes on as isolate does anywhere: COMMAND's group is a job of its at the new terminal, so that Ctrl-C,
//! Ctrl-Z and an interactive shell's own jobs work there. A COMMAND that led the session itself could not be stopped: its group would
//! be an orphaned one (setpgid(2)).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use anyhow::{Context, Result};
use chain::{WithHint, inherited, pidfd};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::tcgetsid;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, isatty, pipe2, setsid};

use crate::process::fork;
use crate::signals::{self, ChildSignal};
use crate::supervise::flow::Flow;
use crate::supervise::pty::Pty;
use crate::supervise::relay::Relay;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    WithTerminal,
    WithoutTerminal,
}

/// What the leader of the new session gets for each standard stream that is the caller's terminal.
type Streams = [Option<Rc<OwnedFd>>; 3];

impl Session {
    /// Returns in the leader of the new session, or where something failed; this process ends as that does.
    pub fn start(self) -> Result<()> {
        let own_pidfd = pidfd::own().context("pidfd")?;
        let tty = tty();
        let pty = match (self, &tty) {
            (Session::WithoutTerminal, _) => None,
            (Session::WithTerminal, Ok(tty)) => Some(Pty::open(tty)?),
            (Session::WithTerminal, Err(error)) => {
                let error = std::io::Error::from(error.kind());
                return Err(error).context("--pty: /dev/tty").hint("without a terminal to relay to: --new-session");
            }
        };
        let tty = tty.ok();
        let (streams, outputs) = replace_terminals(pty.as_ref(), tty.as_ref())?;
        let child_signal = ChildSignal::set_default();
        // From here on the relay hears every signal.
        let mask = signals::block_all();
        match fork().context("fork")? {
            None => {
                drop(outputs);
                chain::die_with_parent(&own_pidfd)?;
                setsid().context("session")?;
                if let Some(pty) = &pty {
                    pty.make_controlling().context("the new terminal")?;
                }
                take_over(streams).context("standard streams")?;
                mask.restore();
                child_signal.put_back();
                Ok(())
            }
            Some(leader) => {
                drop(streams);
                let relay = Relay::new(leader, own_pidfd, tty, pty, outputs).and_then(Relay::until_the_end);
                // The relay has closed descriptors that values here still own: no destructor may run.
                let Err(error) = relay;
                chain::leave(chain::fail(chain::Tool::Isolate, &error))
            }
        }
    }
}

/// The caller's terminal, in an open file of our own: nonblocking is a property of those, and the caller's belongs to the caller.
fn tty() -> std::io::Result<Rc<OwnedFd>> {
    let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
    let tty = File::options().read(true).write(true).custom_flags(flags).open("/dev/tty")?;
    Ok(Rc::new(tty.into()))
}

/// No stream may stay a terminal of the caller's: by its descriptor it can be read and set from any session
/// (job control is for the session's own; ioctl_tty(2)).
fn replace_terminals(pty: Option<&Pty>, tty: Option<&Rc<OwnedFd>>) -> Result<(Streams, Vec<Flow>)> {
    let mut streams = Streams::default();
    let mut outputs: Vec<Flow> = pty.iter().zip(tty).map(|(pty, tty)| Flow::new(&pty.master, tty)).collect();
    for number in 0..3 {
        let Some(stream) = inherited(number as i32).filter(|stream| isatty(stream) == Ok(true)) else { continue };
        let is_controlling = tcgetsid(stream).is_ok();
        streams[number] = Some(match pty {
            Some(pty) if is_controlling => pty.slave.clone(),
            _ if number == 0 => Rc::new(File::open("/dev/null").context("/dev/null")?.into()),
            // One pipe for both where both are one terminal: what is written stays in order.
            _ if number == 2 && pty.is_none() && streams[1].is_some() => streams[1].clone().context("a pipe")?,
            _ => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
                fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("pipe")?;
                let to = match tty {
                    Some(tty) if is_controlling => tty.clone(),
                    _ => Rc::new(reopened(stream)?),
                };
                outputs.push(Flow::new(&Rc::new(read), &to));
                Rc::new(write)
            }
        });
    }
    Ok((streams, outputs))
}

/// Nonblocking where it may be opened again; a terminal of another user's, after su(1), may not.
fn reopened(stream: BorrowedFd) -> Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let flags = (OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits();
    match File::options().write(true).custom_flags(flags).open(format!("/proc/self/fd/{}", stream.as_raw_fd())) {
        Ok(file) => Ok(file.into()),
        Err(_) => stream.try_clone_to_owned().context("standard streams"),
    }
}

fn take_over(streams: Streams) -> nix::Result<()> {
    let [input, output, error] = &streams;
    input.as_ref().map_or(Ok(()), |fd| dup2_stdin(fd.as_fd()))?;
    output.as_ref().map_or(Ok(()), |fd| dup2_stdout(fd.as_fd()))?;
    error.as_ref().map_or(Ok(()), |fd| dup2_stderr(fd.as_fd()))
}

//! What isolate does about a signal: a function of the signal, where it came from, and what is known of the child.

use nix::libc;

use crate::signals::{Default, default_action};
use crate::supervise::disposition::Disposition;

/// Where a signal came from, and who has it already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody sent it to this process.
    Sender,
    /// The terminal sent it to our group, the child included.
    OwnTerminal,
    /// The terminal sent it to the child's own group.
    ChildsTerminal,
    /// A member of the child's own group sent it to that.
    Member,
}

/// How far the child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is not COMMAND yet, or has just become it: nobody can know which of the two a signal found.
    Starting,
    Running,
    /// It was sent a SIGKILL.
    Dying,
}

/// What is known of the child when a signal comes.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub phase: Phase,
    /// The kernel keeps from a PID 1 what it leaves at the default (pid_namespaces(7)).
    pub is_pid1: bool,
    /// PID 1 is our reaper, and COMMAND its child.
    pub has_reaper: bool,
    /// What the child does with this signal. None if that cannot be seen: then a signal that ends processes is taken as
    /// meant to.
    pub disposition: Option<Disposition>,
    /// The child's group has the terminal, or has just got it because it asked.
    pub has_terminal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Nothing,
    /// Find out what became of the child.
    Reap,
    /// Go on after a stop, and the child with us.
    GoOn,
    /// Continue the child, which waits for the terminal.
    Continue,
    Forward,
    /// Stop the child, and then ourselves.
    Stop,
    /// End the child, and die of the signal ourselves.
    Kill,
    /// Die of the signal at once: the child will die of its SIGKILL whether we wait or not.
    Leave,
}

pub fn decide(signal: i32, source: Source, known: &Known) -> Action {
    let default = default_action(signal);
    match (signal, source) {
        (libc::SIGCHLD, _) => return Action::Reap,
        _ if known.phase == Phase::Dying => {
            return if (default, source) == (Default::Ends, Source::Sender) { Action::Leave } else { Action::Nothing };
        }
        // The terminal's signals to the child's group are for us too, and so are those by which a job stops itself.
        (_, Source::Member) if default != Default::Stops => return Action::Nothing,
        (libc::SIGCONT, _) => return Action::GoOn,
        // A process in the child's group wants the terminal. A reader that is PID 1 cannot go on and asks again and
        // again: some of that arrives late.
        (libc::SIGTTIN | libc::SIGTTOU, Source::ChildsTerminal | Source::Member) if known.has_terminal => {
            return Action::Continue;
        }
        _ => {}
    }
    let is_dropped = kernel_drops(signal, source, known);
    match default {
        Default::Stops if is_dropped => Action::Stop,
        Default::Ends if is_dropped => Action::Kill,
        _ if is_dropped => Action::Nothing,
        _ if source == Source::Sender => Action::Forward,
        // The kernel may have dropped it before there was a handler: better twice than never.
        _ if known.phase == Phase::Starting && known.is_pid1 => Action::Forward,
        _ => Action::Nothing,
    }
}

/// Whether the child, as PID 1, will neither see this signal nor die of it.
fn kernel_drops(signal: i32, source: Source, known: &Known) -> bool {
    let is_handled = known.disposition == Some(Disposition::Handled);
    // Until it has started, a reaper is a PID 1 like any other.
    let has_reaper = known.has_reaper && known.phase != Phase::Starting;
    match signal {
        _ if !known.is_pid1 => false,
        // The command under a reaper is not PID 1. Only a link that waits for its turn is stopped from here.
        libc::SIGTTIN | libc::SIGTTOU if has_reaper => true,
        _ if has_reaper => false,
        // A link that waits for its turn at the terminal blocks these, sends them to its group as the terminal would, and
        // means to be stopped.
        libc::SIGTTIN | libc::SIGTTOU => !is_handled,
        libc::SIGTSTP if source == Source::Member => !is_handled,
        _ => matches!(known.disposition, None | Some(Disposition::Default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::*;
    use Disposition::{Blocked, Handled};
    use Phase::*;
    use Source::*;
    use nix::libc::{
        SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
        SIGWINCH,
    };

    const fn child(is_pid1: bool, has_reaper: bool, phase: Phase, disposition: Option<Disposition>) -> Known {
        Known { phase, is_pid1, has_reaper, disposition, has_terminal: false }
    }

    const AT_DEFAULT: Option<Disposition> = Some(Disposition::Default);
    const PLAIN: Known = child(false, false, Running, None);
    const PID1: Known = child(true, false, Running, AT_DEFAULT);
    const WITH_HANDLER: Known = child(true, false, Running, Some(Handled));
    const BLOCKING: Known = child(true, false, Running, Some(Blocked));
    const UNSEEN: Known = child(true, false, Running, None);
    const UNDER_REAPER: Known = child(true, true, Running, None);
    const STARTING: Known = child(true, false, Starting, AT_DEFAULT);
    const STARTING_PLAIN: Known = child(false, false, Starting, AT_DEFAULT);
    const STARTING_HANDLED: Known = child(true, false, Starting, Some(Handled));
    const STARTING_REAPER: Known = child(true, true, Starting, AT_DEFAULT);
    const AT_TERMINAL: Known = Known { has_terminal: true, ..PID1 };
    const DYING: Known = child(true, false, Dying, AT_DEFAULT);

    #[test]
    fn every_signal_has_its_action() {
        #[rustfmt::skip]
        let table: &[(&[i32], Source, &[Known], Action)] = &[
            // To us, and what the child is decides.
            (&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, 34, 64], Sender, &[PLAIN, WITH_HANDLER, BLOCKING, UNDER_REAPER, STARTING_PLAIN, STARTING_HANDLED], Forward),
            (&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, 34, 64], Sender, &[PID1, UNSEEN, STARTING, STARTING_REAPER], Kill),
            (&[SIGTSTP, SIGTTIN, SIGTTOU], Sender, &[PID1, UNSEEN, STARTING, STARTING_REAPER], Stop),
            (&[SIGTSTP, SIGTTIN, SIGTTOU], Sender, &[PLAIN, WITH_HANDLER, STARTING_PLAIN], Forward),
            (&[SIGTSTP], Sender, &[BLOCKING, UNDER_REAPER], Forward),
            (&[SIGTTIN, SIGTTOU], Sender, &[BLOCKING, UNDER_REAPER], Stop),
            (&[SIGWINCH], Sender, &[PID1, UNSEEN, STARTING], Nothing),
            (&[SIGWINCH], Sender, &[PLAIN, WITH_HANDLER, UNDER_REAPER], Forward),
            (&[SIGCONT], Sender, &[PLAIN, PID1, UNDER_REAPER, STARTING], GoOn),
            (&[SIGCHLD], Sender, &[PLAIN, PID1, UNDER_REAPER, STARTING, DYING], Reap),
            // Typed for our group: the child has it as well, unless the kernel keeps it from it.
            (&[SIGINT, SIGQUIT, SIGHUP, 34], OwnTerminal, &[PLAIN, WITH_HANDLER, BLOCKING, UNDER_REAPER, STARTING_PLAIN], Nothing),
            (&[SIGINT, SIGQUIT, SIGHUP, 34], OwnTerminal, &[PID1, UNSEEN, STARTING, STARTING_REAPER], Kill),
            (&[SIGINT, SIGQUIT], OwnTerminal, &[STARTING_HANDLED], Forward),
            (&[SIGTSTP], OwnTerminal, &[PLAIN, WITH_HANDLER, UNDER_REAPER], Nothing),
            (&[SIGTSTP], OwnTerminal, &[PID1, STARTING], Stop),
            // Typed for the child's own group.
            (&[SIGINT, SIGQUIT], ChildsTerminal, &[WITH_HANDLER, UNDER_REAPER], Nothing),
            (&[SIGINT, SIGQUIT], ChildsTerminal, &[PID1, STARTING, STARTING_REAPER], Kill),
            (&[SIGINT, SIGQUIT], ChildsTerminal, &[STARTING_HANDLED], Forward),
            (&[SIGTSTP], ChildsTerminal, &[PID1, STARTING], Stop),
            (&[SIGTTIN, SIGTTOU], ChildsTerminal, &[AT_TERMINAL], Continue),
            (&[SIGTTIN, SIGTTOU], ChildsTerminal, &[PID1, BLOCKING, UNDER_REAPER, STARTING], Stop),
            // A member's: nothing but stops.
            (&[SIGTERM, SIGINT, SIGUSR1, SIGCONT, SIGWINCH, 34], Member, &[PID1, WITH_HANDLER, UNDER_REAPER, STARTING], Nothing),
            (&[SIGTSTP, SIGTTIN, SIGTTOU], Member, &[PID1, BLOCKING], Stop),
            (&[SIGSTOP], Member, &[PID1], Stop),
            (&[SIGTTIN, SIGTTOU], Member, &[AT_TERMINAL], Continue),
            (&[SIGTSTP, SIGTTIN, SIGTTOU], Member, &[WITH_HANDLER], Nothing),
            // A second one does not wait for a child that does not die.
            (&[SIGTERM, SIGINT, SIGHUP, 34], Sender, &[DYING], Leave),
            (&[SIGTSTP, SIGCONT, SIGWINCH], Sender, &[DYING], Nothing),
            (&[SIGINT, SIGQUIT], ChildsTerminal, &[DYING], Nothing),
        ];
        for (signals, source, children, action) in table {
            for (signal, known) in signals.iter().flat_map(|signal| children.iter().map(move |known| (*signal, known)))
            {
                assert_eq!(decide(signal, *source, known), *action, "{signal} from {source:?} with {known:?}");
            }
        }
    }

    #[test]
    fn no_signal_that_ends_is_without_an_effect_but_where_the_child_has_it_too() {
        for signal in (1..=64).filter(|&signal| ![SIGKILL, SIGCHLD].contains(&signal)) {
            for known in [PLAIN, PID1, WITH_HANDLER, BLOCKING, UNSEEN, UNDER_REAPER, STARTING, STARTING_REAPER] {
                let action = decide(signal, Sender, &known);
                let has_effect = default_action(signal) == Default::Nothing || action != Nothing;
                assert!(has_effect, "{signal} with {known:?}");
            }
        }
    }
}

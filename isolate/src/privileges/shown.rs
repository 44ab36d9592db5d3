//! A filter as --explain prints it.

use std::fmt;

use nix::errno::Errno;

use crate::privileges::profile::{Action, Arg, Op, Rule};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Action::KillProcess => "kills the process",
            Action::KillThread => "kills the thread",
            Action::Trap => "sends SIGSYS",
            Action::Errno => "is refused",
            Action::Trace => "is left to a tracer",
            Action::Log => "is allowed and logged",
            Action::Allow => "is allowed",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().chain(&self.name).map(String::as_str).collect();
        write!(f, "{}: ", names.join(" "))?;
        match (self.action, self.errno_ret, &self.errno) {
            (Action::Errno, Some(0), None) => f.write_str("does nothing and succeeds")?,
            (Action::Errno, Some(number), None) => write!(f, "{:?}", Errno::from_raw(number as i32))?,
            (Action::Errno, _, Some(name)) => f.write_str(name)?,
            (action, ..) => action.fmt(f)?,
        }
        let args: Vec<String> = self.args.iter().flatten().map(Arg::to_string).collect();
        match args.is_empty() {
            true => Ok(()),
            false => write!(f, ", where {}", args.join(" and ")),
        }
    }
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Arg { index, op, value, value_two } = self;
        let sign = match op {
            Op::Ne => "!=",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Eq => "==",
            Op::Ge => ">=",
            Op::Gt => ">",
            Op::MaskedEq => return write!(f, "argument {index} & {value:#x} == {value_two:#x}"),
        };
        write!(f, "argument {index} {sign} {value:#x}")
    }
}

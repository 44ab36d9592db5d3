//! From argv to a tool's body and back to an exit status.

use std::ffi::OsString;
use std::io::IsTerminal;

use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, Parser};
use nix::sys::resource::{Resource, getrlimit};

use crate::meant::meant;
use crate::plain_line::PlainLine;
use crate::report::{Hint, fail, print};
use crate::{FAILED, Tool, WithHint};

/// Options that every link has.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Common {
    /// Print what the chain would do as a shell script over util-linux; change nothing
    #[arg(long, alias = "dry-run")]
    pub explain: bool,

    /// Print each step on stderr as it happens
    #[arg(short, long)]
    pub verbose: bool,
}

/// A link's whole `main`: parse, run, report. `body` returns only if there is no COMMAND to become, or if it failed.
pub fn main<A: PlainLine>(tool: Tool, words: Vec<OsString>, body: impl FnOnce(A) -> anyhow::Result<()>) -> u8 {
    if let Err(error) = enough_stack(64) {
        return fail(tool, &error);
    }
    match A::read(words) {
        Ok(args) => run(tool, body, args),
        Err(words) => by_clap(tool, words, body, |_| {}),
    }
}

/// The kernel ends a program that outgrows its stack limit with SIGSEGV, which explains nothing (getrlimit(2)).
fn enough_stack(kib: u64) -> anyhow::Result<()> {
    match getrlimit(Resource::RLIMIT_STACK) {
        Ok((current, _)) if current >> 10 < kib => Err(anyhow::anyhow!("the stack may have {} KiB", current >> 10))
            .hint(format!("RLIMIT_STACK is too low: ulimit -s {kib} or more")),
        _ => Ok(()),
    }
}

fn run<A>(tool: Tool, body: impl FnOnce(A) -> anyhow::Result<()>, args: A) -> u8 {
    body(args).map_or_else(|error| fail(tool, &error), |()| 0)
}

/// The same with clap for every command line, and something to do when the arguments are wrong.
pub fn main_or<A: Parser>(
    tool: Tool,
    words: Vec<OsString>,
    body: impl FnOnce(A) -> anyhow::Result<()>,
    wrong_usage: impl FnOnce(&anyhow::Error),
) -> u8 {
    if let Err(error) = enough_stack(256) {
        return fail(tool, &error);
    }
    by_clap(tool, words, body, wrong_usage)
}

fn by_clap<A: Parser>(
    tool: Tool,
    words: Vec<OsString>,
    body: impl FnOnce(A) -> anyhow::Result<()>,
    wrong_usage: impl FnOnce(&anyhow::Error),
) -> u8 {
    match parse::<A>(tool, words) {
        Ok(args) => run(tool, body, args),
        Err(Refused::Usage(error)) => {
            wrong_usage(&error);
            fail(tool, &error)
        }
        Err(Refused::Asked(text)) => match print(text) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => FAILED,
            _ => 0,
        },
    }
}

/// Why there are no arguments.
pub(crate) enum Refused {
    Usage(anyhow::Error),
    /// Help or the version.
    Asked(String),
}

/// As clap reads them. Of a repeated option the last one counts, as in unshare(1).
pub(crate) fn parse<A: Parser>(tool: Tool, words: impl IntoIterator<Item = OsString>) -> Result<A, Refused> {
    let words = std::iter::once(tool.name().into()).chain(words);
    let matches = A::command().args_override_self(true).try_get_matches_from(words);
    let args = matches.and_then(|matches| {
        if let Some(option) = option_behind_an_operand(&A::command(), &matches) {
            let message = anyhow!("{option}: stands behind an operand; options come first").context(Hint(
                match (tool, option.as_str()) {
                    (Tool::Pivot, "--verbose") => {
                        "-v is --verbose, and a volume --bind SRC:DST: pivot --bind SRC:DST ROOT -- COMMAND".into()
                    }
                    _ => "where it is COMMAND's, put -- before COMMAND".into(),
                },
            ));
            return Ok(Err(Refused::Usage(message)));
        }
        A::from_arg_matches(&matches).map(Ok)
    });
    args.unwrap_or_else(|error| {
        Err(match error.use_stderr() {
            true => Refused::Usage(usage_error::<A>(tool, &error)),
            false => Refused::Asked(error.render().to_string()),
        })
    })
}

/// Unlike clap, POSIX utilities take no options after operands.
fn option_behind_an_operand(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let typed = |arg: &&Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let index = |arg: &Arg| matches.indices_of(arg.get_id().as_str());
    let operand = command.get_positionals().filter(typed).filter_map(|arg| index(arg)?.min()).min()?;
    let options = command.get_arguments().filter(|arg| !arg.is_positional());
    let behind = options.filter(typed).find(|arg| index(arg).and_then(Iterator::max) > Some(operand))?;
    Some(behind.get_long().map_or_else(|| behind.get_id().to_string(), |long| format!("--{long}")))
}

/// clap's message is a paragraph; ours is a line and a hint.
pub(crate) fn usage_error<A: CommandFactory>(tool: Tool, error: &clap::Error) -> anyhow::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let arg = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::UnknownArgument if !arg.starts_with('-') => anyhow!("{arg}: unexpected operand"),
        ErrorKind::UnknownArgument => anyhow!("{arg}: unknown option"),
        ErrorKind::InvalidValue if value.is_empty() => anyhow!("{arg}: a value is missing"),
        ErrorKind::InvalidValue => anyhow!("{arg}: {value:?} is not a possible value"),
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|why| why.to_string()).unwrap_or_default();
            anyhow!("{arg}: {value:?}: {why}")
        }
        ErrorKind::MissingRequiredArgument => anyhow!("{arg}: missing"),
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_else(|| "another option".into());
            anyhow!("{arg}: cannot be used with {other}")
        }
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => {
            anyhow!("{arg}: wrong number of values")
        }
        ErrorKind::NoEquals => anyhow!("{arg}: the value must follow an equals sign"),
        _ => {
            let rendered = error.render().to_string();
            let line = rendered.lines().next().unwrap_or_default();
            anyhow!("{}", line.trim_start_matches("error: "))
        }
    };
    let option = arg.split(' ').next().unwrap_or_default();
    if let Some(hint) = meant(tool, option).filter(|_| error.kind() == ErrorKind::UnknownArgument) {
        return what.context(Hint(hint.into()));
    }
    let no_image = error.kind() == ErrorKind::MissingRequiredArgument && arg.contains("<IMAGE>");
    if no_image && !std::io::stdin().is_terminal() {
        return what.context(Hint("from standard input: unpack - [ROOT] <IMAGE".into()));
    }
    let hint = match (text(ContextKind::SuggestedArg), text(ContextKind::ValidValue)) {
        (Some(other), _) => format!("did you mean {other}?"),
        (None, Some(values)) if !values.is_empty() => format!("possible values: {values}"),
        _ => {
            let usage = A::command().render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ").lines().next().unwrap_or_default().to_owned();
            format!("usage: {usage} ({} --help for more)", tool.name())
        }
    };
    what.context(Hint(hint))
}

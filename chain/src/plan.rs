//! Plan, then perform: a tool's options become a list of steps; one loop prints or performs them.

use std::convert::Infallible;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{Carry, Command, Common, Tool, layout, lent_caps, report};

/// One step: its shell line and its deed, side by side.
///
/// `Display` is one or more lines of POSIX shell over util-linux that do the same: comment lines
/// first, the command last. What has no shell equivalent is a comment. The last line is also what
/// `--verbose` prints and what an error names.
pub trait Step: fmt::Display {
    /// What steps hand to each other as they run: descriptors, the carry.
    type State;

    fn perform(&self, state: &mut Self::State) -> Result<()>;

    /// Performs this step and then the rest, here or in a new process.
    fn lead(&self, state: &mut Self::State, rest: &mut Rest<Self::State>) -> Result<Infallible> {
        self.perform(state).map_err(|error| named(self, error))?;
        rest(state)
    }

    /// Whether the shell line is a program that runs the rest of the chain (as unshare does).
    fn nests(&self) -> bool {
        false
    }
}

/// What follows a step, up to becoming the command.
pub type Rest<'a, S> = dyn FnMut(&mut S) -> Result<Infallible> + 'a;

/// A running link: which tool, how it was asked to run, and what the previous link left.
#[derive(Debug)]
pub struct Link {
    pub tool: Tool,
    pub carry: Carry,
    explain: bool,
    verbose: bool,
}

/// States that hold the carry while the steps run.
pub trait HasCarry {
    fn carry(&mut self) -> &mut Carry;
}

impl HasCarry for Carry {
    fn carry(&mut self) -> &mut Carry {
        self
    }
}

impl Link {
    pub fn new(tool: Tool, common: &Common) -> Link {
        let carry = Carry::take();
        Link { tool, explain: common.explain || carry.explain.is_some(), verbose: common.verbose, carry }
    }

    /// Whether this run prints instead of performing.
    pub fn explains(&self) -> bool {
        self.explain
    }

    /// Performs the steps, then becomes the command; with `--explain`, prints both instead.
    /// `state` is made from the carry when performing starts. Returns only where it printed or failed.
    pub fn run<S: Step>(mut self, steps: &[S], state: impl FnOnce(Carry) -> S::State, command: &Command) -> Result<()>
    where
        S::State: HasCarry,
    {
        if self.explain {
            return self.print(steps, command);
        }
        let mut carry = std::mem::take(&mut self.carry);
        if command.tool().is_none() && carry.image.is_none() {
            // No link follows, and COMMAND must not inherit these descriptors.
            carry.tools = Default::default();
        }
        let never = self.follow(steps, &mut state(carry), command)?;
        match never {}
    }

    fn follow<S: Step>(&self, steps: &[S], state: &mut S::State, command: &Command) -> Result<Infallible>
    where
        S::State: HasCarry,
    {
        let Some((step, steps)) = steps.split_first() else { return self.become_command(state.carry(), command) };
        let begun = self.verbose.then(Instant::now);
        step.lead(state, &mut |state| {
            if let Some(begun) = begun {
                let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
                report::warn(self.tool, format_args!("{} ({milliseconds:.1} ms)", shown(step)));
            }
            self.follow(steps, state, command)
        })
    }

    fn become_command(&self, carry: &mut Carry, command: &Command) -> Result<Infallible> {
        let mut carry = std::mem::take(carry);
        let mut command = at_the_end(&mut carry, command);
        for (name, value) in carry.env.drain(..) {
            command.env.set(name, value)?;
        }
        if self.verbose {
            report::warn(self.tool, format_args!("exec {command}"));
        }
        if carry.caps_lent && command.tool().is_none() {
            lent_caps::give_up()?;
        }
        command.exec(carry)
    }

    fn print<S: Step>(mut self, steps: &[S], command: &Command) -> Result<()> {
        let mut command = at_the_end(&mut self.carry, command);
        if self.carry.caps_lent && command.tool().is_none() {
            let words = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--"];
            command.argv.splice(0..0, words.map(Into::into));
        }
        let depth = self.carry.explain.as_ref().map_or(0, Vec::len);
        let mut script = self.script(steps, &command);
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout()) {
            let width = if size.ws_col == 0 { 80 } else { usize::from(size.ws_col) };
            script = layout::for_terminal(&script, depth, width);
        }
        match report::print(&script) {
            // The reader has seen enough: the next link would find nobody either.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("standard output")?,
        }
        if command.tool().is_some() {
            let never: Infallible = command.exec(self.carry)?;
            match never {}
        }
        Ok(())
    }

    /// This link's part of the script: to its end, or to where the next link continues.
    pub(crate) fn script<S: Step>(&mut self, steps: &[S], command: &Command) -> String {
        let mut script = String::new();
        let open = self.carry.explain.get_or_insert_with(|| {
            script.push_str("#!/bin/sh\nset -e\n");
            Vec::new()
        });
        script.push_str(&format!("\n# {}\n", self.tool.name()));
        let follows = command.tool().is_some();
        let mut last = "exec ".to_owned();
        for (number, step) in steps.iter().enumerate() {
            let text = step.to_string();
            if step.nests() && number + 1 == steps.len() && !follows {
                // It can run the command itself.
                let dashes = if command.argv[0].as_bytes().starts_with(b"-") { "-- " } else { "" };
                let (comments, line) = text.rsplit_once('\n').map_or(("", text.as_str()), |both| both);
                let newline = if comments.is_empty() { "" } else { "\n" };
                last = format!("{comments}{newline}exec {line} {dashes}");
            } else if step.nests() {
                let end = format!("{}_{}", self.tool.name().to_uppercase(), open.len() + 1);
                let (comments, line) = text.rsplit_once('\n').map_or(("", text.as_str()), |both| both);
                let newline = if comments.is_empty() { "" } else { "\n" };
                script.push_str(&format!("{comments}{newline}exec {line} sh -e /dev/fd/3 3<<'{end}'\nexec 3<&-\n"));
                open.push(end);
            } else {
                script.push_str(&format!("{text}\n"));
            }
        }
        if !follows {
            script.push_str(&format!("{last}{command}\n"));
            while let Some(end) = open.pop() {
                script.push_str(&format!("{end}\n"));
            }
        }
        script
    }
}

/// The command itself, or at the end of the chain what the image makes of it.
fn at_the_end(carry: &mut Carry, command: &Command) -> Command {
    let Some(image) = carry.image.as_mut().filter(|_| command.tool().is_none()) else { return command.clone() };
    let command = command.of_image(image);
    carry.image.take_if(|image| image.user.is_none());
    command
}

/// Puts the failing shell line in front of an error. A comment would add nothing.
pub fn named(step: &(impl fmt::Display + ?Sized), error: anyhow::Error) -> anyhow::Error {
    let text = step.to_string();
    match text.lines().last() {
        Some(line) if !line.starts_with('#') => error.context(line.to_owned()),
        _ => error,
    }
}

/// The line that stands for a step in messages.
fn shown(step: &impl fmt::Display) -> String {
    let text = step.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("# ").to_owned()
}

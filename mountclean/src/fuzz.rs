//! What the fuzzers run of mountclean: arguments to a plan, which is only printed.

use chain::Tool;
use chain::fuzz::Target;

/// By the name of the corpus's directory.
pub const TARGETS: [(&str, Target); 1] = [("argv-mountclean", argv)];

pub fn argv(data: &[u8]) {
    let Some(args) = chain::fuzz::plain_line_arguments::<crate::args::Args>(Tool::Mountclean, data) else { return };
    let command = chain::Command::new(args.command.clone(), || "/bin/sh".into());
    for (ours, host) in [
        (false, None),
        (true, None),
        (true, Some(chain::HostTree::Stacked)),
        (true, Some(chain::HostTree::Gone)),
        (true, Some(chain::HostTree::Kept)),
    ] {
        match crate::kept(&args) {
            Ok(keep) => chain::fuzz::plan(Tool::Mountclean, &crate::plan(&args, &keep, ours, host), &command),
            Err(error) => chain::fuzz::refused(&error),
        }
    }
}

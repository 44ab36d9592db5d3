//! What the fuzzers run of the contract itself, and what those of the tools share. Each target takes
//! any bytes, must neither panic nor hang, and checks what has to hold whatever they are.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Parser;

use crate::cli::Refused;
use crate::handoff::Expect;
use crate::handoff::first_line::{Verdict, verdict};
use crate::{Carry, Command, Common, Link, PlainLine, Step, Tool, cli, layout, report};

pub type Target = fn(&[u8]);

/// By the name of the corpus's directory.
pub const TARGETS: [(&str, Target); 2] = [("handoff", handoff), ("carry", carry)];

/// The first bytes of a pipe: up to a NUL the root that is awaited (none: any), then what arrives.
pub fn handoff(data: &[u8]) {
    let (root, bytes) = data.split_at(data.iter().position(|&byte| byte == 0).unwrap_or(0));
    let bytes = bytes.strip_prefix(b"\0").unwrap_or(bytes);
    let expect = match root {
        [] => Expect::Any,
        root => Expect::Root(Path::new(OsStr::from_bytes(root))),
    };
    let decided = verdict(bytes, false, expect);
    if let Verdict::Line(length) = decided {
        let (end, path) = bytes[..length].split_last().expect("a line has its newline");
        assert_eq!(*end, b'\n', "a line without an end");
        match expect {
            Expect::Root(root) => assert_eq!(path, root.as_os_str().as_bytes(), "another root's line was taken"),
            Expect::Any => assert!(!path.contains(&b'\n') && bytes[0] == b'/', "more than a line was taken"),
        }
    }
    let open = |verdict: &Verdict| matches!(verdict, Verdict::Wait | Verdict::Another { .. });
    // In whatever pieces it arrives: what was decided stays, and at the end of input something is.
    for end in 0..bytes.len().min(200) {
        let before = verdict(&bytes[..end], false, expect);
        assert!(open(&before) || before == decided, "{before:?} became {decided:?}");
    }
    let at_end = verdict(bytes, true, expect);
    assert_ne!(at_end, Verdict::Wait, "the end of input decided nothing");
    assert!(open(&decided) || decided == at_end, "{decided:?} became {at_end:?}");
}

/// What a link claims to be handed by the one before it.
pub fn carry(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Descriptors would be taken over from the process that fuzzes.
    let key = |field: &str| field.split('=').next().map(str::to_owned);
    if text.split(';').filter_map(key).any(|key| key == "parent" || Tool::from_word(OsStr::new(&key)).is_some()) {
        return;
    }
    let Some(carry) = Carry::parse(text) else { return };
    let shown = format!("{carry:?}");
    let lent = carry.lend().expect("no descriptors, no failure");
    if lent.is_empty() {
        return;
    }
    let again = lent.to_str().and_then(Carry::parse).unwrap_or_else(|| panic!("{lent:?} is refused"));
    assert_eq!(format!("{again:?}"), shown, "what was lent is not what was taken");
}

/// The arguments of a link. The plain reader reads them as clap does.
pub fn plain_line_arguments<A: PlainLine + std::fmt::Debug>(tool: Tool, data: &[u8]) -> Option<A> {
    let args = arguments(tool, data);
    if let Ok(plain) = A::read(words(data).collect()) {
        let clap = args.as_ref().map(|args| format!("{args:?}"));
        assert_eq!(Some(format!("{plain:?}")), clap, "not what clap reads");
    }
    args
}

/// Every line of up to four of these words, as the arguments of a link.
pub fn every_line<A: PlainLine + std::fmt::Debug>(tool: Tool, words: &[&str]) {
    let mut lines = vec![Vec::new()];
    let mut plain = 0;
    for _ in 0..4 {
        lines = lines.iter().flat_map(|line| words.iter().map(move |&word| [line, &[word][..]].concat())).collect();
        for line in &lines {
            plain += usize::from(A::read(line.iter().map(OsString::from).collect()).is_ok());
            plain_line_arguments::<A>(tool, line.join("\0").as_bytes());
        }
    }
    assert!(plain > words.len(), "hardly a line is plain");
}

/// A NUL ends each.
fn words(data: &[u8]) -> impl Iterator<Item = OsString> {
    data.split(|&byte| byte == 0).map(|word| OsString::from_vec(word.to_vec()))
}

/// Words as the arguments of a tool; what clap refuses is refused in one line.
pub fn arguments<A: Parser>(tool: Tool, data: &[u8]) -> Option<A> {
    match cli::parse::<A>(tool, words(data)) {
        Ok(args) => Some(args),
        Err(Refused::Usage(error)) => {
            refused(&error);
            None
        }
        Err(Refused::Asked(_)) => None,
    }
}

/// An error says something.
pub fn refused(error: &anyhow::Error) {
    assert!(!report::message(error).is_empty(), "an error without a message");
}

/// A plan as a script, and that laid out for narrow and for wide terminals; nothing is performed.
pub fn plan<S: Step>(tool: Tool, steps: &[S], command: &Command) {
    let mut link = Link::new(tool, &Common { explain: true, verbose: false });
    let script = link.script(steps, command);
    assert!(!script.contains('\0'), "a NUL in a script");
    for width in [1, 20, 80, 1000] {
        let laid_out = layout::for_terminal(&script, 0, width);
        let letters = |text: &str| text.bytes().filter(u8::is_ascii_alphanumeric).count();
        assert!(letters(&laid_out) >= letters(&script), "the layout lost something");
    }
}

/// An empty root, one for the life of the process: what a run leaves beside it, the next one overwrites.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    extern "C" fn remove() {
        let _ = ROOT.get().and_then(|root| root.parent()).map(std::fs::remove_dir_all);
    }
    ROOT.get_or_init(|| {
        let place = nix::unistd::mkdtemp(&std::env::temp_dir().join("chainroot-fuzz-XXXXXX")).expect("a directory");
        std::fs::create_dir(place.join("root")).expect("a directory in it");
        // SAFETY: exit(3) calls it once.
        unsafe { nix::libc::atexit(remove) };
        place.join("root")
    })
}

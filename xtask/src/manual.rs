//! A manual page: clap's definition for NAME, DESCRIPTION and OPTIONS, with the sections of the long
//! help and of docs/man in the order that man-pages(7) gives. clap_mangen's SYNOPSIS would be a list of
//! all options; docs/man has one to read.

use std::fmt::Write as _;
use std::io::Write;

use clap::Command;
use clap_mangen::Man;

use crate::text::{Block, Section, sections};

/// Where sections stand after OPTIONS; those that are not here come between.
const FIRST: [&str; 2] = ["EXIT STATUS", "ENVIRONMENT"];
const LAST: [&str; 2] = ["EXAMPLES", "SEE ALSO"];

pub fn page(command: &Command, extra: &str) -> String {
    let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    // The sections of the long help are typeset here, not as one block of text.
    let bare = command.clone().after_help(None::<&str>).after_long_help(None::<&str>);
    let name = bare.get_name().to_uppercase();
    let version = bare.get_version().unwrap_or_default().to_owned();
    let man = Man::new(bare);
    let part = |render: fn(&Man, &mut dyn Write) -> std::io::Result<()>| {
        let mut out = Vec::new();
        render(&man, &mut out).expect("writing to memory");
        let text = String::from_utf8(out).expect("roff is text");
        // Each part begins with a definition of Aq, the apostrophe that is one in every roff.
        let lines = text.lines().filter(|line| !line.contains(".ds Aq"));
        lines.fold(String::new(), |page, line| page + &line.replace("\\*(Aq", "\\(aq") + "\n")
    };

    let mut sections = merged(sections(&help), sections(extra));
    let synopsis = sections.iter().position(|section| section.heading == "SYNOPSIS").map(|at| sections.remove(at));
    let mut page = format!(".TH {name} 1 \"\" \"chainroot {version}\" \"User Commands\"\n");
    page.push_str(&part(|man, out| man.render_name_section(out)));
    render(&synopsis.expect("docs/man has a SYNOPSIS"), &mut page);
    page.push_str(&part(|man, out| man.render_description_section(out)));
    page.push_str(&part(|man, out| man.render_options_section(out)));
    for section in &sections {
        render(section, &mut page);
    }
    page
}

/// Sections of one heading become one; then they are put in order.
fn merged(help: Vec<Section>, extra: Vec<Section>) -> Vec<Section> {
    let mut all: Vec<Section> = Vec::new();
    for section in help.into_iter().chain(extra) {
        match all.iter_mut().find(|other| other.heading == section.heading) {
            Some(other) => other.blocks.extend(section.blocks),
            None => all.push(section),
        }
    }
    all.sort_by_key(|section| {
        let place = |list: &[&str]| list.iter().position(|heading| *heading == section.heading);
        place(&FIRST).or(place(&LAST).map(|at| 100 + at)).unwrap_or(10)
    });
    all
}

fn render(section: &Section, page: &mut String) {
    let _ = writeln!(page, ".SH \"{}\"", section.heading);
    for (at, block) in section.blocks.iter().enumerate() {
        // A paragraph begins after a heading without being told to.
        let apart = if at == 0 { "" } else { ".PP\n" };
        let _ = match block {
            Block::Paragraph(text) => writeln!(page, "{apart}{}", roff(text)),
            Block::Definition { term, text } => writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(term), roff(text)),
            Block::Example(lines) => {
                let lines: Vec<String> = lines.iter().map(|line| roff(line)).collect();
                writeln!(page, "{apart}.RS 4\n.nf\n{}\n.fi\n.RE", lines.join("\n"))
            }
        };
    }
}

/// Text as a line of roff: a dot or quote at its start would be a request.
fn roff(text: &str) -> String {
    let escaped = escape(text);
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

/// Hyphens and quotes that are typed in a shell have to stay what they are (man-pages(7)).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '…' => escaped.push_str("\\&..."),
            c => escaped.push(c),
        }
    }
    escaped
}

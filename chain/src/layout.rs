//! The script of `--explain` laid out for a terminal: what runs inside another command is indented, and long lines
//! continue after a backslash. It still runs.

/// Indentation of continued lines and of what runs inside a command.
const INDENT: usize = 2;

/// Lays a part of a script out for `width` columns, `depth` here-documents deep.
pub(crate) fn for_terminal(script: &str, mut depth: usize, width: usize) -> String {
    let mut out = String::with_capacity(script.len() * 2);
    for line in commands(script) {
        // The shell wants the word that ends a here-document at the left edge.
        let ends = is_end(line);
        depth = if ends || matches!(line, "}" | ")") { depth.saturating_sub(1) } else { depth };
        let margin = " ".repeat(if ends { 0 } else { depth * INDENT });
        match line.strip_prefix("# ") {
            Some(comment) => fill(&mut out, &margin, comment.split(' '), width, "# ", ""),
            None => fill(&mut out, &margin, words(line).into_iter(), width, "", " \\"),
        }
        if line.contains(" 3<<'") || line.ends_with(" {") || line.ends_with(" (") {
            depth += 1;
        }
    }
    out
}

/// Puts words on lines. All but the last end with `goes_on`.
fn fill<'a>(
    out: &mut String,
    margin: &str,
    words: impl Iterator<Item = &'a str>,
    width: usize,
    begin: &str,
    goes_on: &str,
) {
    let mut column = 0;
    for (number, word) in words.enumerate() {
        // What follows a newline in quotes is measured from there.
        let length = word.chars().count();
        if number == 0 {
            if !word.is_empty() {
                out.push_str(margin);
            }
            out.push_str(begin);
            column = margin.len() + begin.len();
        } else if column + 1 + length + goes_on.len() > width {
            out.push_str(goes_on);
            out.push('\n');
            let further = if begin.is_empty() { 2 * INDENT } else { 0 };
            let margin = format!("{margin}{}{begin}", " ".repeat(further));
            out.push_str(&margin);
            column = margin.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column = word.rsplit_once('\n').map_or(column + length, |(_, last)| last.chars().count());
    }
    out.push('\n');
}

fn is_end(line: &str) -> bool {
    line.split_once('_').is_some_and(|(tool, number)| {
        !tool.is_empty()
            && tool.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The script's lines; one that ends inside quotes goes on to where they close.
fn commands(script: &str) -> Vec<&str> {
    split(script.strip_suffix('\n').unwrap_or(script), '\n')
}

/// A command's words, split at spaces outside quotes.
fn words(line: &str) -> Vec<&str> {
    split(line, ' ')
}

fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut quote, mut escaped) = (Vec::new(), 0, None, false);
    let mut comment = false;
    for (position, c) in text.char_indices() {
        let line_begins = position == start && at == '\n';
        comment = if line_begins { c == '#' } else { comment };
        match (c, quote) {
            _ if escaped => escaped = false,
            // An apostrophe in a comment quotes nothing.
            (c, None) if c == at => {
                parts.push(&text[start..position]);
                start = position + c.len_utf8();
            }
            _ if comment => {}
            ('\\', None | Some('"')) => escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::for_terminal;

    #[test]
    fn what_runs_inside_a_command_is_indented_and_its_end_is_not() {
        let script = "set -e\n\n# isolate\nexec unshare sh 3<<'ISOLATE_1'\nexec 3<&-\nexec sh\nISOLATE_1\n";
        let laid_out = "set -e\n\n# isolate\nexec unshare sh 3<<'ISOLATE_1'\n  exec 3<&-\n  exec sh\nISOLATE_1\n";
        assert_eq!(for_terminal(script, 0, 80), laid_out);
        assert_eq!(for_terminal("cd x\n", 2, 80), "    cd x\n");
        assert_eq!(for_terminal("mask() {\nmount x\n}\nmask\n", 0, 80), "mask() {\n  mount x\n}\nmask\n");
    }

    #[test]
    fn long_lines_go_on_between_words() {
        assert_eq!(for_terminal("mount --rbind aaaaaa bbbbbb\n", 0, 20), "mount --rbind \\\n    aaaaaa bbbbbb\n");
        assert_eq!(for_terminal("# it's a long remark, truly\n", 0, 16), "# it's a long\n# remark, truly\n");
    }

    #[test]
    fn what_is_in_quotes_stays_as_it_is() {
        for word in ["'a b\n  c  d\n# e'", "\"a b\n'c\"", "a\\ b\\'c"] {
            let script = format!("exec sh -c {word}\n");
            assert_eq!(for_terminal(&script, 0, 8), format!("exec \\\n    sh \\\n    -c \\\n    {word}\n"));
        }
    }
}

//! The plain text that a tool's long help and docs/man are written in, as manual sections:
//! a line in capitals at the left edge is a heading, two spaces begin a paragraph or, where two more
//! follow its first word, a definition, and four or more are an example, kept as it is.

#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    Paragraph(String),
    Definition { term: String, text: String },
    Example(Vec<String>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    pub heading: String,
    pub blocks: Vec<Block>,
}

/// Reads sections. What comes before the first heading is dropped.
pub fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut apart = true;
    for line in text.lines() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        if body.is_empty() {
            apart = true;
            continue;
        }
        if indent == 0 {
            sections.push(Section { heading: body.to_owned(), blocks: Vec::new() });
            apart = true;
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        add(&mut section.blocks, indent, body, apart);
        apart = false;
    }
    sections
}

fn add(blocks: &mut Vec<Block>, indent: usize, body: &str, apart: bool) {
    match (blocks.last_mut(), indent) {
        (Some(Block::Definition { text, .. }), 3..) if !apart => {
            text.push(' ');
            text.push_str(body);
        }
        (Some(Block::Example(lines)), 4..) if !apart => lines.push(body.to_owned()),
        (_, 4..) => blocks.push(Block::Example(vec![body.to_owned()])),
        (last, _) => match (body.split_once("  "), last) {
            (Some((term, text)), _) => {
                blocks.push(Block::Definition { term: term.to_owned(), text: text.trim_start().to_owned() });
            }
            (None, Some(Block::Paragraph(text))) if !apart => {
                text.push(' ');
                text.push_str(body);
            }
            (None, _) => blocks.push(Block::Paragraph(body.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_have_paragraphs_definitions_and_examples() {
        let text = "A SECTION\n  One\n  paragraph:\n      an example\n      of two lines\n\n  125  failed,\n       really\n  0    fine\nOTHER\n  x\n\n  y\n";
        let paragraph = |text: &str| Block::Paragraph(text.into());
        let definition = |term: &str, text: &str| Block::Definition { term: term.into(), text: text.into() };
        assert_eq!(
            sections(text),
            [
                Section {
                    heading: "A SECTION".into(),
                    blocks: vec![
                        paragraph("One paragraph:"),
                        Block::Example(vec!["an example".into(), "of two lines".into()]),
                        definition("125", "failed, really"),
                        definition("0", "fine"),
                    ]
                },
                Section { heading: "OTHER".into(), blocks: vec![paragraph("x"), paragraph("y")] },
            ]
        );
    }
}

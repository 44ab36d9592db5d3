//! What an IMAGE that is not a file was meant to be: a registry name, an address, or another tool's notation.

use std::path::Path;

/// What to type instead. None if the name can only be a file's.
pub(super) fn instead(path: &Path) -> Option<String> {
    let name = path.to_str()?;
    // What is put into a line for a shell must need no quotes.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/@%+?=&".contains(&b)) {
        return None;
    }
    if let Some(rest) = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")) {
        let image = rest.strip_prefix("hub.docker.com/_/").or_else(|| rest.strip_prefix("hub.docker.com/r/"));
        let image = image.unwrap_or(rest).split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let file = format!("curl -fL '{name}' | unpack -");
        return Some(match is_reference(image) {
            true => format!("a file: {file} ; an image: {}", copy(&format!("docker://{image}"))),
            false => file,
        });
    }
    match name.split_once(':') {
        // skopeo's transports, containers-transports(5).
        Some(("docker", image)) => Some(copy(&format!("docker://{}", image.trim_start_matches('/')))),
        Some(("containers-storage" | "docker-daemon" | "ostree", _)) => Some(copy(name)),
        Some(("oci" | "oci-archive" | "docker-archive" | "dir", place)) => match place.split_once(':') {
            Some((file, tag)) => Some(format!("unpack --ref {tag} {file}")),
            None => Some(format!("unpack {place}")),
        },
        _ => is_reference(name).then(|| copy(&format!("docker://{name}"))),
    }
}

fn copy(from: &str) -> String {
    format!("skopeo copy --quiet {from} docker-archive:/dev/stdout | unpack -")
}

/// `[HOST[:PORT]/]PATH[:TAG][@DIGEST]` as registries have it, and not as archives and paths are called.
fn is_reference(name: &str) -> bool {
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
    let is_component = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
    };
    let extension =
        name.rsplit('/').next().and_then(|last| last.rsplit_once('.')).map_or("", |(_, extension)| extension);
    let archive = ["tar", "tgz", "txz", "tzst", "tbz", "tbz2", "gz", "xz", "zst", "bz2", "img", "zip", "json", "oci"];
    name.split('/').all(is_component)
        && !archive.contains(&extension)
        && digest.is_none_or(|digest| digest.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(name: &str) -> String {
        instead(Path::new(name)).unwrap_or_default()
    }

    #[test]
    fn names_of_registries_become_the_line_that_fetches_them() {
        for (name, image) in [
            ("alpine", "docker://alpine"),
            ("alpine:3.20", "docker://alpine:3.20"),
            ("docker://alpine", "docker://alpine"),
            ("docker:alpine", "docker://alpine"),
            ("docker.io/library/alpine", "docker://docker.io/library/alpine"),
            ("localhost:5000/a/b:v1", "docker://localhost:5000/a/b:v1"),
            ("quay.io/a/b@sha256:00", "docker://quay.io/a/b@sha256:00"),
            ("containers-storage:localhost/x", "containers-storage:localhost/x"),
        ] {
            let line = format!("skopeo copy --quiet {image} docker-archive:/dev/stdout | unpack -");
            assert_eq!(hint(name), line);
        }
        assert!(
            hint("https://hub.docker.com/_/alpine")
                .ends_with("--quiet docker://alpine docker-archive:/dev/stdout | unpack -")
        );
        assert!(hint("https://example.org/root.tar.xz").eq("curl -fL 'https://example.org/root.tar.xz' | unpack -"));
        assert_eq!(hint("oci:layout:v1"), "unpack --ref v1 layout");
        assert_eq!(hint("docker-archive:img.tar"), "unpack img.tar");
    }

    #[test]
    fn a_file_that_is_not_there_is_just_that() {
        for name in
            ["img.tar", "./alpine", "/srv/alpine", "../alpine", "debian.tar.xz", "a b", "$(x)", "", "x;y", "x'y"]
        {
            assert_eq!(instead(Path::new(name)), None, "{name}");
        }
    }
}

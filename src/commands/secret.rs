//! The secret that signs what a webhook is told: read from its file, and refused where anybody could
//! sign with it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::config::{ConfigError, HookConfig};
use crate::moderation::escape::escape_path;

/// No secret is longer; what is, is another file.
const LARGEST: u64 = 64 << 10;
/// Shorter ones can be guessed: 128 bits.
const SHORTEST: usize = 16;
/// Permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o006;

/// A usable secret, and what speaks against it all the same.
#[derive(Debug)]
pub(super) struct Secret {
    /// Without the white space around it.
    pub(super) bytes: Vec<u8>,
    /// For people, with what to do.
    pub(super) doubts: Vec<String>,
}

/// The secret of a webhook; none where it names no file, and for a command, which needs none.
///
/// # Errors
/// [`ConfigError::Secret`] when the file can't be read, or holds nothing but white space and control
/// characters.
pub(super) fn read(hook: &HookConfig) -> Result<Option<Secret>, ConfigError> {
    let Some(path) = hook.secret_file.as_ref().filter(|_| hook.webhook.is_some()) else {
        return Ok(None);
    };
    let refused = |problem: String| ConfigError::Secret {
        path: path.clone(),
        hook: hook.name.clone(),
        problem,
    };
    let (bytes, mode) = read_file(path).map_err(|error| {
        refused(format!("the secret can't be read: {error}; check `secret_file` and the file"))
    })?;
    // Editors and `echo` end files with a line end that nobody means; `docs/hooks.md` says how
    // receivers do the same.
    let bytes = bytes.trim_ascii().to_vec();
    if is_blank(&bytes) {
        return Err(refused(format!(
            "the secret is empty, so anybody could sign with it; write one: \
             `openssl rand -hex 32 > {}`",
            escape_path(path)
        )));
    }
    let mut doubts = Vec::new();
    if bytes.len() < SHORTEST {
        doubts.push(format!(
            "the secret in {} has fewer than {SHORTEST} bytes and can be guessed; write a longer \
             one here and at the receiver",
            escape_path(path)
        ));
    }
    if mode & OTHERS != 0 {
        doubts.push(format!(
            "every user of this machine can read or change {}; `chmod o= {}`, and write a new \
             secret",
            escape_path(path),
            escape_path(path)
        ));
    }
    Ok(Some(Secret { bytes, doubts }))
}

/// Whether nothing is left that anybody wrote on purpose: only white space, control characters and the
/// mark by which some editors begin a file. To HMAC a key of zeros is the empty one.
fn is_blank(secret: &[u8]) -> bool {
    let blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    std::str::from_utf8(secret).is_ok_and(|text| text.chars().all(blank))
}

/// The bytes and the permissions.
fn read_file(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Opening a pipe would wait for somebody who writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it has more than 64 KiB, which is not a secret"));
    }
    Ok((bytes, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(path: &Path) -> HookConfig {
        HookConfig {
            name: "site".into(),
            on: vec!["verdict".into()],
            command: Vec::new(),
            webhook: Some("https://example.org".into()),
            secret_file: Some(path.to_owned()),
            timeout_seconds: 10,
            attempts: 10,
            pause_ms: 1000,
        }
    }

    fn read_of(content: &[u8], mode: u32) -> Result<Secret, String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("hook.secret");
        std::fs::write(&path, content).expect("written");
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("our own file");
        let read = read(&hook(&path)).map_err(|error| error.to_string())?;
        Ok(read.expect("a file is named"))
    }

    #[test]
    fn white_space_around_a_secret_is_no_part_of_it() {
        let long = b"0123456789abcdef0123456789abcdef";
        for content in [
            long.to_vec(),
            [long.as_slice(), b"\n"].concat(),
            [long.as_slice(), b"\r\n\r\n"].concat(),
            [b" \t\x0c".as_slice(), long, b" \n"].concat(),
        ] {
            let secret = read_of(&content, 0o600).expect("a good secret");
            assert_eq!(secret.bytes, long);
            assert_eq!(secret.doubts, Vec::<String>::new());
        }
        // As Python's `strip(b" \t\n\x0c\r")` does: other bytes stay.
        let secret = read_of(b"\x0b0123456789abcdef\xc2\xa0\n", 0o600).expect("a good secret");
        assert_eq!(secret.bytes, b"\x0b0123456789abcdef\xc2\xa0");
    }

    #[test]
    fn a_secret_that_everybody_knows_is_refused() {
        for empty in [
            b"".as_slice(),
            b"\n",
            b"\r\n",
            b" \t \n\x0c",
            b"\0\0\0\0",
            b"\xef\xbb\xbf\r\n",
            b"\xc2\xa0\x0b\n",
        ] {
            let refused = read_of(empty, 0o600).expect_err("anybody could sign");
            assert!(refused.contains("hook.secret") && refused.contains("hook site"), "{refused}");
            assert!(refused.contains("is empty") && refused.contains("openssl"), "{refused}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (path, why) in [
            (dir.path().join("missing"), "No such file"),
            (dir.path().to_owned(), "not a regular file"),
            ("/dev/zero".into(), "not a regular file"),
        ] {
            let refused = read(&hook(&path)).expect_err("can't be read").to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let refused = read_of(&vec![b'x'; 65 << 10], 0o600).expect_err("too long");
        assert!(refused.contains("64 KiB"), "{refused}");
    }

    #[test]
    fn weak_secrets_and_open_files_are_told() {
        let short = read_of(b"hunter2\n", 0o640).expect("usable");
        assert!(short.doubts.len() == 1 && short.doubts[0].contains("fewer than 16"), "{short:?}");
        let open = read_of(b"0123456789abcdef", 0o644).expect("usable");
        assert!(open.doubts.len() == 1 && open.doubts[0].contains("chmod o="), "{open:?}");
    }
}

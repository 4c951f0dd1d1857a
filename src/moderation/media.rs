//! Files that are not pictures and may show one: films, documents, links.

use super::policy::spelled;

spelled! {
    /// What a file is, as far as judging goes.
    FileKind {
        /// A picture, or what may be one.
        Picture = "picture",
        /// A film.
        Video = "video",
        /// A PDF.
        Pdf = "pdf",
        /// Any other document: text with layout, slides, a book.
        Document = "document",
        /// A symbolic link.
        Link = "link",
        /// Anything else.
        Other = "other",
    }
}

impl FileKind {
    /// `1 video`, `2 PDFs`.
    pub fn count(self, files: u64) -> String {
        let one = match self {
            Self::Picture => "picture",
            Self::Video => "video",
            Self::Pdf => "PDF",
            Self::Document => "document",
            Self::Link => "symbolic link",
            Self::Other => "other file",
        };
        format!("{files} {one}{}", if files == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_no_plural() {
        assert_eq!(FileKind::Video.count(1), "1 video");
        assert_eq!(FileKind::Pdf.count(2), "2 PDFs");
        assert_eq!(FileKind::Link.count(0), "0 symbolic links");
    }
}

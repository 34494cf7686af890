//! The little XML that S3 answers with: pages of a listing, and errors. What is asked for are names of our own, in which
//! nothing needs escaping; whatever else stands there is read over.

/// A page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and sizes.
    pub objects: Vec<(String, u64)>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// Reads a page. None: it is not one, or not all of it. A listing that is cut short must never look like one that has ended:
/// what is not listed counts as not there, and its data as not needed.
pub fn page(xml: &str) -> Option<Page> {
    let list = element(xml, "ListBucketResult")?;
    let mut page = Page::default();
    let mut rest = list;
    while let Some(object) = element(rest, "Contents") {
        page.objects.push((unescaped(element(object, "Key")?)?, element(object, "Size")?.trim().parse().ok()?));
        rest = &rest[rest.find("</Contents>")? + "</Contents>".len()..];
    }
    match element(list, "IsTruncated").map(str::trim) {
        Some("true") => page.next = Some(unescaped(element(list, "NextContinuationToken")?)?),
        Some("false") => {}
        _ => return None,
    }
    Some(page)
}

/// What an error says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its code: one word, or nothing where it is not one of S3.
    pub code: String,
    /// Words for people.
    pub message: String,
    /// The region that was expected.
    pub region: Option<String>,
}

/// Reads an error.
pub fn error(xml: &str) -> Said {
    let said = |name| element(xml, name).and_then(unescaped);
    let mut code = said("Code").unwrap_or_default();
    code.retain(|c| c.is_ascii_alphanumeric());
    code.truncate(64);
    Said { code, message: said("Message").unwrap_or_default(), region: said("Region") }
}

/// What stands in the first element of that name. S3 gives its elements no prefixes and, but for the outermost, no attributes.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let begin = from + xml[from..].find(&format!("<{name}"))? + 1 + name.len();
        let after = &xml[begin..];
        if after.starts_with(['>', ' ', '\n', '\r', '\t']) {
            let content = &after[after.find('>')? + 1..];
            return content.find(&format!("</{name}>")).map(|end| &content[..end]);
        }
        from = begin;
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('&');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (entity, after) = part.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            other => {
                let digits = other.strip_prefix('#')?;
                let number = digits.strip_prefix('x').map_or_else(|| digits.parse(), |hex| u32::from_str_radix(hex, 16));
                char::from_u32(number.ok()?)?
            }
        });
        out.push_str(after);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p/</Prefix><KeyCount>2</KeyCount>
<MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b&#x2F;c</NextContinuationToken>
<Contents><Key>p/a&lt;</Key><LastModified>2026-11-23T00:00:00.000Z</LastModified><Size>12</Size></Contents>
<Contents><Key>p/b</Key><Size> 0 </Size><Owner><ID>x</ID></Owner></Contents></ListBucketResult>"#;

    #[test]
    fn a_page_is_read_with_its_keys_sizes_and_where_the_next_begins() {
        let objects = vec![("p/a<".to_owned(), 12), ("p/b".to_owned(), 0)];
        assert_eq!(page(PAGE), Some(Page { objects, next: Some("a&b/c".into()) }));
        let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(page(empty), Some(Page::default()));
    }

    #[test]
    fn a_page_that_is_cut_short_is_no_page_whatever_the_byte() {
        for end in 0..PAGE.len() {
            assert_eq!(page(&PAGE[..end]), None, "{end}");
        }
        for bad in ["", "<html>ok</html>", "<ListBucketResult></ListBucketResult>", &PAGE.replace("> 0 <", ">-1<")] {
            assert_eq!(page(bad), None, "{bad}");
        }
        let nowhere = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert_eq!(page(nowhere), None, "more is to come, and nothing says from where");
    }

    #[test]
    fn an_error_is_its_code_and_a_message() {
        let xml =
            "<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>It&apos;s gone</Message><Region>eu</Region></Error>";
        let said = Said { code: "NoSuchBucket".into(), message: "It's gone".into(), region: Some("eu".into()) };
        assert_eq!(error(xml), said);
        assert_eq!(error("<html>"), Said::default());
    }
}

//! The pages as one book: every link leads somewhere, whatever names a page names one that is there, and docs/SUMMARY.md has
//! each page once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::transcripts::documents;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the project that are text, but for what was built, fetched or generated.
fn texts(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", "venv", "__pycache__"];
    for entry in fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("read a directory").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with('.') || NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            texts(&path, out);
        } else if let Ok(text) = fs::read_to_string(&path) {
            out.push((path, text));
        }
    }
}

/// The anchors of a page: those that GitHub makes of its headings, and those that it names itself.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("read a page");
    let plain = text.split("```").step_by(2).flat_map(str::lines);
    let headings = plain.filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let kept = |letter: char| letter.is_alphanumeric() || " -_".contains(letter);
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(|letter| kept(*letter)).collect::<String>().replace(' ', "-")
    };
    let named = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    headings.map(slug).chain(named.map(str::to_owned)).collect()
}

/// Whether `link`, in the folder `from`, leads to a file, and to a heading if it says which.
fn leads_somewhere(from: &Path, page: &Path, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { from.join(file) };
    let is_page = target.extension().is_some_and(|extension| extension == "md");
    target.exists() && (!is_page || anchor.is_empty() || anchors(&target).iter().any(|one| one == anchor))
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    // A title may follow.
    links.map(|link| link.split(' ').next().unwrap_or_default()).filter(|link| !link.starts_with("http"))
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut files = Vec::new();
    texts(root(), &mut files);
    files.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "md"));
    assert!(documents().iter().all(|page| files.iter().any(|(path, _)| path == page)));
    let dead = files.iter().flat_map(|(page, text)| {
        let from = page.parent().expect("a folder");
        let dead = links(text).filter(move |link| !leads_somewhere(from, page, link));
        dead.map(move |link| format!("{}: {link}", page.display()))
    });
    let dead: Vec<_> = dead.collect();
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

/// Comments and messages name pages by their path below the root, some with an anchor behind it.
#[test]
fn every_page_that_is_named_is_there() {
    let mut files = Vec::new();
    texts(root(), &mut files);
    let is_path = |letter: char| letter.is_ascii_alphanumeric() || "._-/#".contains(letter);
    let mut dead = Vec::new();
    let mut named = 0;
    for (path, text) in &files {
        for (at, _) in text.match_indices("docs/") {
            let rest = &text[at..];
            let name = rest.split(|letter| !is_path(letter)).next().unwrap_or_default();
            let Some(end) = name.find(".md") else { continue };
            let anchor = &name[end + ".md".len()..];
            let name = if anchor.starts_with('#') { name } else { &name[..end + ".md".len()] };
            named += 1;
            if !leads_somewhere(root(), root(), name) {
                dead.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(named > 50, "only {named} were found");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn the_summary_names_each_page_once() {
    let summary = root().join("docs/SUMMARY.md");
    let text = fs::read_to_string(&summary).expect("read the summary");
    let all: Vec<PathBuf> = links(&text).map(|link| summary.with_file_name(link)).collect();
    let named: Vec<PathBuf> = all.iter().map(|page| page.canonicalize().expect("a page")).collect();
    let once: BTreeSet<_> = named.iter().collect();
    assert_eq!(once.len(), named.len(), "a page is named twice");
    let missing: Vec<_> = documents().into_iter().filter(|page| *page != summary).collect();
    let missing = missing.iter().filter(|page| !named.contains(&page.canonicalize().expect("a page")));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

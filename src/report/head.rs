//! What every page begins with, its style included, so that it needs no other file.

use maud::{Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// The head of a page called `title`.
pub fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="generator" content={ "sim " (env!("CARGO_PKG_VERSION")) };
            // Without it a browser asks for /favicon.ico.
            link rel="icon" href="data:,";
            title { (title) " · sim" }
            style { (PreEscaped(STYLE)) }
        }
    }
}

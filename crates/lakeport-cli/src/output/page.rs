//! A past run as one self-contained page.

use serde_json::Value;

use super::human;

/// The page: the run's text in a frame that prints well.
pub(crate) fn render(run: &Value) -> String {
    let ok = run["ok"].as_bool().unwrap_or(false);
    let escape = |t: &str| t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = format!(
        "{} {}",
        run.pointer("/plan/job").and_then(Value::as_str).unwrap_or("run"),
        run["id"].as_str().unwrap_or_default()
    );
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>\
         body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color-scheme:light dark}}\
         h1{{font-size:1.3rem}}.mark{{padding:.1rem .6rem;border-radius:1rem;color:#fff;background:{}}}\
         pre{{overflow-x:auto;padding:1rem;border:1px solid #8885;border-radius:.5rem;font-size:13px}}</style>\
         <h1><span class=mark>{}</span> {}</h1><pre>{}</pre></html>\n",
        if ok { "#1a7f37" } else { "#b42318" },
        if ok { "done" } else { "failed" },
        escape(&title),
        escape(&human::past(run)),
        title = escape(&title),
    )
}

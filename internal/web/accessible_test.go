package web

import "testing"

// checks are expressions that list what a user with a screen reader, with the keyboard alone or with
// weak eyes can't use, by the rules of https://www.w3.org/TR/WCAG22/. An empty list is good.
var checks = map[string]string{
	"the language (3.1.1)": `document.documentElement.lang ? [] : ['html']`,
	"one heading of the first level, and none left out (1.3.1)": `(() => {
		const levels = [...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1]);
		return levels.filter((level, i) => i === 0 ? level !== 1 : level === 1 || level > levels[i - 1] + 1);
	})()`,
	"labels of fields (1.3.1, 3.3.2)": `[...document.querySelectorAll('input, select, textarea')]
		.filter(e => !(e.labels.length && e.labels[0].innerText.trim())).map(e => e.name)`,
	"names of what can be used (4.1.2)": `[...document.querySelectorAll('button, a, summary')]
		.filter(e => !(e.innerText || e.getAttribute('aria-label') || '').trim()).map(e => e.outerHTML)`,
	"names of regions and pictures (1.1.1, 2.4.1)": `[...document.querySelectorAll('section, [role=img], [role=region]')]
		.filter(e => !e.getAttribute('aria-label')).map(e => e.outerHTML.slice(0, 60))`,
	"headers of tables (1.3.1)": `[...document.querySelectorAll('#services table, #ends table')]
		.filter(t => [...t.querySelectorAll('thead th')].some(h => !h.innerText.trim())).map(t => t.outerHTML.slice(0, 60))`,
	"regions that scroll, by the keyboard too (2.1.1)": `[...document.querySelectorAll('*')]
		.filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowY) && e.tabIndex < 0).map(e => e.id)`,
	"places of rows in the whole table (1.3.1)": `[...document.querySelectorAll('#services tr')]
		.filter((e, i) => +e.ariaRowIndex !== i + 1).map(e => e.outerHTML.slice(0, 60))`,
	"ids that are there once (4.1.1)": `[...document.querySelectorAll('[id]')].map(e => e.id)
		.filter((id, i, all) => all.indexOf(id) !== i)`,
	"a visible focus (2.4.7)": `[...document.querySelectorAll('button, a, input, select, summary, [tabindex]')].filter(e => {
		e.focus({focusVisible: true});
		const style = getComputedStyle(e);
		return document.activeElement === e && (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 1);
	}).map(e => e.outerHTML)`,
	"contrast of text (1.4.3)": `(() => {
		const rgb = text => text.match(/[\d.]+/g).map(Number);
		const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
			.map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
			.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
		const back = e => {
			for (; e; e = e.parentElement) {
				const c = rgb(getComputedStyle(e).backgroundColor);
				if (c.length < 4 || c[3] > 0) return c;
			}
			return [255, 255, 255];
		};
		const weak = [];
		for (const e of document.querySelectorAll('body *')) {
			const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
			if (!own && e.tagName !== 'INPUT' || !e.offsetParent || e.tagName === 'SCRIPT') continue;
			const [a, b] = [light(rgb(getComputedStyle(e).color)), light(back(e))].sort((a, b) => b - a);
			const ratio = (a + 0.05) / (b + 0.05);
			if (ratio < 4.5) weak.push(e.outerHTML.slice(0, 60) + ' ' + ratio.toFixed(2));
		}
		return weak;
	})()`,
}

// The page can be used with a screen reader, with the keyboard alone and with weak eyes.
func pageIsAccessible(t *testing.T, b *browser, s *site, _ string) {
	s.update(func() { s.engines[0].Error = "an error" })
	s.put("e0", "sick", "redis", "172.17.0.9", "", sick)
	b.wait(hasRow("unhealthy"))
	b.eval("document.querySelectorAll('details').forEach(d => d.open = true)")
	b.wait("document.querySelectorAll('select').length > 0")
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1100, 360} {
			b.size(width, 900, scheme)
			for what, list := range checks {
				if got := b.eval(list).([]any); len(got) > 0 {
					t.Errorf("%s, %d wide: %s: %.500q", scheme, width, what, got)
				}
			}
		}
	}
	s.update(func() { s.engines[0].Error = "" })
	s.remove("e0")
	b.wait(rows(3))
}

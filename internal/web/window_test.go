package web

import (
	"fmt"
	"testing"

	"github.com/rayje/dnsdock/internal/dnsname"
	"github.com/rayje/dnsdock/internal/publish"
)

// Filters combine, are kept in the URL's fragment, and come back with it.
func pageFilters(t *testing.T, b *browser, s *site, url string) {
	choose := func(field, value string) {
		b.eval(fmt.Sprintf("{const f = search.form.elements[%q]; f.focus(); f.value = %q; "+
			"f.dispatchEvent(new Event('input', {bubbles: true}))}", field, value))
	}
	s.put("c0", "late", "nginx", "172.17.0.9", "", func(s *publish.Service) {
		s.Origin.Notes = &publish.Notes{Project: "bank"}
	})
	b.wait("document.forms.search.elements.project?.options.length === 3")
	choose("project", "shop")
	b.wait(rows(1) + " && " + hasRow("shop_web_1") + " && location.hash === '#project=shop'")
	b.wait("document.activeElement.name === 'project'")
	choose("image", "redis:7")
	b.wait(rows(0))
	choose("project", "")
	b.wait(rows(2) + " && location.hash === '#image=redis%3A7'")
	b.eval("location.hash = '#project=bank&q=late'")
	b.wait(rows(1) + " && " + hasRow("late") + " && search.value === 'late'")
	s.remove("c0") // the choice stays until the user makes another one
	b.wait(rows(0) + " && document.forms.search.elements.project.value === 'bank'")
	b.call("Page.navigate", map[string]any{"url": "about:blank"})
	b.open(url + "/#project=shop")
	b.wait(rows(1) + " && document.forms.search.elements.project.value === 'shop'")
	b.eval("location.hash = ''")
	b.wait(rows(3))
}

// Of 10,000 services the page never holds more rows than its window, however the user scrolls or filters. So the
// browser's work does not grow with them.
func pageScrolls(t *testing.T, b *browser, s *site, _ string) {
	const many = 10000
	s.update(func() {
		for i := range many {
			id := fmt.Sprintf("many%d", i)
			name := mustName(t, fmt.Sprintf("m%05d.many.docker", i))
			s.services[id] = &publish.Service{ID: id, OwnerNames: []dnsname.Name{name}, Extras: new(publish.Extras)}
		}
	})
	box, count := "document.getElementById('services')", "document.getElementById('count').innerText"
	b.eval("window.most = 0; window.watch = new MutationObserver(() => most = Math.max(most, " +
		rowsOf + ".length)); watch.observe(" + box + ", {childList: true, subtree: true}); refresh()")
	b.wait(count + ".startsWith('10003 found')")
	visible := func(text string) string {
		return fmt.Sprintf("%s.some(row => { const r = row.getBoundingClientRect(), all = %s.getBoundingClientRect(); "+
			"return row.innerText.includes(%q) && r.bottom > all.top && r.top < all.bottom })", rowsOf, box, text)
	}
	b.eval(box + ".scrollTop = " + box + ".scrollHeight / 2")
	b.wait(visible("m0"))
	b.wait("firstRow().ariaRowIndex > 4000 && firstRow().ariaRowIndex < 6000")
	b.eval(box + ".scrollTop = " + box + ".scrollHeight")
	b.wait(hasRow("shop_web_1"))
	b.eval(box + ".scrollTop = " + box + ".scrollHeight")
	b.wait(visible("shop_web_1"))
	b.eval("search.value = 'm09999'; search.dispatchEvent(new Event('input', {bubbles: true}))")
	b.wait(rows(1) + " && " + visible("m09999") + " && " + count + ".startsWith('1 found')")
	b.eval("search.value = ''; search.dispatchEvent(new Event('input', {bubbles: true}))")
	b.wait(count + ".startsWith('10003 found') && " + visible("m00000"))
	b.wait("document.querySelector('#services table').ariaRowCount === '10004'")
	most, nodes := b.eval("most").(float64), b.eval("document.querySelectorAll('*').length").(float64)
	if most > maxRows || nodes > 40*maxRows {
		t.Errorf("the page had %v rows and has %v elements; want at most %d rows", most, nodes, maxRows)
	}
	b.eval("watch.disconnect()")
	s.update(func() {
		for i := range many {
			delete(s.services, fmt.Sprintf("many%d", i))
		}
	})
	b.eval("refresh()")
	b.wait(rows(3))
}

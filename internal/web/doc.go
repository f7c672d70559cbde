// Package web serves HTTP: it guards against foreign pages and writers, renders the overview page, and streams events.
package web

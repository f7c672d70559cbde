package main

import "strings"

// environ is getenv of a fixed environment, "NAME=value" each.
func environ(vars []string) func(string) string {
	return func(k string) string {
		for _, v := range vars {
			if name, value, _ := strings.Cut(v, "="); name == k {
				return value
			}
		}
		return ""
	}
}

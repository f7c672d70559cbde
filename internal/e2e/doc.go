// Package e2e tests the built program from outside, against fake engines and real ones, and by clients of many kinds.
package e2e

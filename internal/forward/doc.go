// Package forward asks other nameservers: which of them for which names, what to do when they fail, and who may
// ask.
package forward

// Package servicejson writes services as JSON and reads changes of them, for the HTTP API and the state file alike.
package servicejson

// Package watch keeps what is published true to what one Docker Engine says.
package watch

// Package heap returns memory to the system that the program does not need any more.
package heap

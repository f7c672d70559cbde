// Package zone decides how a query is answered, and says why; it knows neither sockets nor HTTP.
package zone

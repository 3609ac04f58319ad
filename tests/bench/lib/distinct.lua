-- For wrk: every request is another one, read from a file of ready requests without their first line.
-- Each record is its length as eight digits, then that many bytes. wrk runs this once a thread: use one.

local file, first

function init(arguments)
   file = assert(io.open(arguments[1], "rb"))
   first = "POST " .. wrk.path .. " HTTP/1.1\r\n"
end

function request()
   local length = file:read(8)
   if not length then
      error("no requests are left: make more of them (--records)")
   end
   return first .. file:read(tonumber(length))
end

function done(summary, latency, _)
   local errors = summary.errors
   print(string.format(
      '{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "refused": %d, "broken": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout
   ))
end

-- Asks the auth service about a request: `http-request lua.ask_for_key <scope>` in haproxy.cfg, which has its address.
local NAMES = { "x-key-name", "x-key-prefix", "x-key-scopes", "x-key-owner" }
local SENT = { "x-api-key", "authorization", "user-agent", "x-request-id" }
local HANDED_ON = { "content-type", "cache-control", "vary", "www-authenticate", "retry-after" }
local REFUSALS = { [400] = true, [401] = true, [403] = true, [429] = true, [503] = true }

-- A list that begins with 0, as HAProxy gives them, as one that begins with 1, as it takes them.
local function listed(values)
    local list = {}
    for place = 0, #values do list[place + 1] = values[place] end
    return list
end

local function refuse(txn, status, headers, body)
    txn:done(txn:reply { status = status, headers = headers, body = txn.f:method() ~= "HEAD" and body or "" })
end

core.register_action("ask_for_key", { "http-req" }, function(txn, scope)
    local received = txn.http:req_get_headers()
    local headers = {
        -- A name in the ALLOWED_HOSTS of the auth service.
        ["host"] = { "localhost" },
        ["x-forwarded-for"] = { txn.f:src() },
        ["x-forwarded-host"] = { "orders.example" },
        ["x-forwarded-method"] = { txn.f:method() },
        ["x-forwarded-proto"] = { "http" },
        -- Without the query.
        ["x-forwarded-uri"] = { string.sub(txn.f:path(), 1, 1000) },
    }
    for _, name in ipairs(SENT) do
        if received[name] then headers[name] = listed(received[name]) end
    end
    -- By way of HAProxy itself, which asks once and keeps connections. This client alone would ask four times.
    local answer = core.httpclient():get {
        url = "http://localhost/gateway/?scope=" .. scope, dst = "unix@question.sock", headers = headers, timeout = 10000
    }
    local told = answer.headers or {}
    if answer.status == 200 and told["x-key-name"] and told["x-key-name"][0] ~= "" then
        for _, name in ipairs(NAMES) do
            txn.http:req_set_header(name, told[name] and told[name][0] or "")
        end
        return txn:set_var("txn.key_is_good", true)
    end
    -- What is not refused by the door itself is a mistake or an outage.
    if REFUSALS[answer.status] and told["x-key-refusal"] then
        local handed_on = {}
        for _, name in ipairs(HANDED_ON) do
            if told[name] then handed_on[name] = listed(told[name]) end
        end
        return refuse(txn, answer.status, handed_on, answer.body)
    end
    refuse(txn, 503, {
        ["content-type"] = { "application/json" }, ["cache-control"] = { "no-store" },
        ["vary"] = { "X-API-Key, Authorization" },
    }, '{"detail": "API keys cannot be checked right now."}')
end, 1)

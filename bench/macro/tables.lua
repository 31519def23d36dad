-- SPDX-License-Identifier: MIT
-- Tables, strings and closures: binary trees, text cut to words and counted, a queue of records. usage: tables.lua ROUNDS
math.randomseed(7)

local function tree(depth)
    if depth == 0 then return {} end
    return { tree(depth - 1), tree(depth - 1) }
end

local function nodes(t)
    return t[1] and 1 + nodes(t[1]) + nodes(t[2]) or 1
end

local function words()
    local parts = {}
    for i = 1, 60000 do parts[i] = string.format("%x", math.random(1 << math.random(4, 40))) end
    local count = {}
    for word in table.concat(parts, " "):gsub("[a-f]+", string.upper):gmatch("%S+") do
        count[word] = (count[word] or 0) + 1
    end
    local sorted = {}
    for word in pairs(count) do sorted[#sorted + 1] = word end
    table.sort(sorted)
    return #sorted
end

local function queue()
    local q, first, last, sum = {}, 1, 0, 0
    for i = 1, 300000 do
        last = last + 1
        q[last] = { id = i, name = "record " .. i, value = function() return i end }
        if last - first > 5000 then
            sum = sum + q[first].value() + #q[first].name
            q[first] = nil
            first = first + 1
        end
    end
    return sum
end

for _ = 1, tonumber(arg[1]) do
    print(nodes(tree(16)), words(), queue())
end

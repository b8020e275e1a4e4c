greeting="Grüße, 世界 🌍"
printf "%s\n" "$greeting" "é" "á" "‏‮!"
